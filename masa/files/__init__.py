"""Files that are checked when they are read: tensors, checksums, disks that are full."""
