"""Comparison collections in numbers, agreement between labelers, and the labeler `reference`."""
