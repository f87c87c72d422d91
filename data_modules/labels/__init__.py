"""Labels: values in files to classes, objects and places; where the files of a set lie."""
