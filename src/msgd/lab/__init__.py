"""The laboratory: runs named experiments over methods and seeds, and tests their differences (extra ``lab``)."""
