"""Publishing: write a model as a folder with a model card, to the hub, or as a graph; write the
results of pictures as files and as a page.
"""
