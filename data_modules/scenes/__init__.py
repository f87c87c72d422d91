"""Scenes: pictures of objects pasted on procedural backgrounds, with captions and masks.  S scene
side in pixels.

``recipes`` defines the content, ``composition`` the objects and their places (in relative units),
and draws a layout at any size; ``grammar`` describes it, ``cutouts`` and ``backgrounds`` draw the
parts, ``folder`` reads pictures from a user's folder, ``held_out`` is the base of the validation
sets.
"""
