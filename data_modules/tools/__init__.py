"""Tools for data: what is in a source, tars of any source, and what the model sees of it.  Know nothing of the command line."""
