"""Every architecture and how it learns: one file each. Knows nothing of files, stages or tracking."""
