"""Ids of captions, by which the losses find equal ones."""

import hashlib

import torch
from torch import Tensor


def text_ids(texts: list[str]) -> Tensor:
    """Hash each caption to 64 bits, equal on every rank and machine.  Returns (B,) int64.

    Any two different captions of a batch collide with probability about B ** 2 / 2 ** 65.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor(
        [int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64
    )
