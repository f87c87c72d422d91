"""Unsupervised segmentation: clusters matched to classes by the Hungarian method."""
