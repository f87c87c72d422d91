"""Losses of image-text pairs, further terms of the loss, and what they exchange between ranks."""
