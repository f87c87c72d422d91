"""Tools for data: inspect a source, pack it into tars, draw its samples.  Independent of the
command line.
"""
