"""Data sets: read from their files or generated, and put on a device."""
