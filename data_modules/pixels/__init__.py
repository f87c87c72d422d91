"""Pixels: files to images, and images to crops."""
