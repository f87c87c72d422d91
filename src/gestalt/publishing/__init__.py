"""Publishing: a model as a folder that loads anywhere, with its card, on the hub, and as a graph."""
