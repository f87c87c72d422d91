"""Callbacks: each holds a metric, calls an engine, and logs numbers and pictures of one image set."""
