"""Evaluation: a benchmark is an image set, a label set and a protocol; an engine is a function of
(model, images, protocol).
"""
