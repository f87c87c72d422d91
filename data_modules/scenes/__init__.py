"""Scenes: pictures of objects pasted on procedural backgrounds, with captions and masks.  S scene
side in pixels.

``recipes`` defines the content; ``composition`` the objects and their places (in relative units),
and draws a layout at any size and describes it; ``cutouts`` and ``backgrounds`` draw the parts.
"""
