"""The files of the data sets: found or downloaded, checked, and read without trusting them."""
