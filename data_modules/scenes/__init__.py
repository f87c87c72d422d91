"""Scenes: pictures of things pasted on procedural backgrounds, with captions and masks.  S scene side in pixels.

``recipes`` says what there is to see, ``layout`` where it stands (in relative units), ``composition`` turns that into pixels at any
size, ``grammar`` into words; ``cutouts`` and ``backgrounds`` draw, ``folder`` takes the pictures from a user's own folder.
"""
