"""Files that somebody else may have written: read within bounds, written in one step."""
