"""Data sets: readers of their files, generators, augmentation, and copies on a device."""
