"""Publishing: a model as a folder that loads anywhere."""
