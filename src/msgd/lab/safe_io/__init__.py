"""Safe reading and writing of files: sizes are bounded, a file is replaced in one step, and links are not followed."""
