"""Retrieval's protocol: images are resized to a square, captions embedded as they are written."""

from gestalt.measures.evaluation.protocols import ImageProtocol

PROTOCOLS = {"retrieval_square": ImageProtocol(name="retrieval_square", resize="square")}
