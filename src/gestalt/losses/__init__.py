"""Losses of image-text pairs, and further terms of the loss."""
