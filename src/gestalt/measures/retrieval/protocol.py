"""Retrieval's protocols: captions are embedded as they are written."""

from gestalt.measures.evaluation.protocols import ImageProtocol

PROTOCOLS = {
    "retrieval_square": ImageProtocol(name="retrieval_square"),
    # as CLIP, open_clip, FLAIR and COSMOS prepare images; SigLIP's are squares
    "retrieval_crop": ImageProtocol(name="retrieval_crop", resize="centre_crop"),
}
