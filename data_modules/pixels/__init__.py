"""Pixels: decode, crop and augment images."""
