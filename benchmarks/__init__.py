"""Measurements that docs refer to; each prints one JSON object."""
