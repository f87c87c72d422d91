"""Labels: locate the files of image sets and map their values to classes and objects."""
