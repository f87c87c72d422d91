"""Cached outputs of frozen towers: the key they are valid for, their files, and reading them in
place of images and captions.
"""
