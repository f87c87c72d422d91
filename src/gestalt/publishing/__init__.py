"""Publishing: a model as a folder with its card, on the hub, and as a graph; results of pictures as
files and as a page.
"""
