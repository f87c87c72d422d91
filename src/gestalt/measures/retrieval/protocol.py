"""Retrieval's protocol: images are resized to a square, captions embedded as they are written."""

from gestalt.evaluation.protocols import ImageProtocol

PROTOCOLS = {"retrieval_square": ImageProtocol(name="retrieval_square", resize="square")}
