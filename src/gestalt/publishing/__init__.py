"""Publishing: a model as a folder that loads anywhere, results of pictures as files and as a page."""
