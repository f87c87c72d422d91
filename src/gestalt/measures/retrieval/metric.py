"""Recall of a whole set, ranked once.  B images, T texts, E shared width."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from gestalt.measures.retrieval.engine import RetrievalScore, Side, caption_hash, retrieval_score
from gestalt.measures.rows import PADDING, gathered


class RetrievalRecall(Metric):
    """Recall at 1, 5 and 10 in both directions over a whole set: embeddings and ids are gathered, then ranked once.

    States keep one row an image and one row a caption; padding stays in them through the sync and is dropped in ``compute``.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    image: list[Tensor]
    image_id: list[Tensor]
    text: list[Tensor]
    text_id: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("image", "image_id", "text", "text_id"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, image: Tensor, text: Tensor, *, sample_id: Tensor, captions: Sequence[Sequence[str]]) -> None:
        """Take a batch.

        Args:
            image: (B, E), L2-normalised.
            text: (T, E), L2-normalised, the captions of the first image, then of the second, and so on.
            sample_id: (B,), the ids in the set; ``PADDING`` is not scored.
            captions: B lists, T captions in all.
        """
        keys = [
            (index, position, caption_hash(caption))
            for index, texts in zip(sample_id.tolist(), captions, strict=True)
            for position, caption in enumerate(texts)
        ]
        if len(keys) != len(text):
            raise ValueError(f"{len(text)} caption embeddings for {len(keys)} captions")
        self.image.append(image.float().to(self.device))
        self.image_id.append(sample_id.to(device=self.device, dtype=torch.int64))
        self.text.append(text.float().to(self.device))
        self.text_id.append(torch.tensor(keys, dtype=torch.int64, device=self.device).reshape(-1, 3))

    def compute(self) -> RetrievalScore:
        """The set's recalls over all ranks."""
        image, text = (torch.cat(state) if isinstance(state, list) else state for state in (self.image, self.text))
        images = _once(image, key=gathered(self.image_id).reshape(-1, 1))
        texts = _once(text, key=gathered(self.text_id))
        return retrieval_score(images, texts)


def _once(vectors: Tensor, *, key: NDArray[np.int64]) -> Side:
    """Rows sorted by key, each key once, padding dropped: the same rows in the same order for any number of ranks."""
    keys, first = np.unique(key, axis=0, return_index=True)
    kept = keys[:, 0] != PADDING
    return Side(vectors[torch.from_numpy(first[kept]).to(vectors.device)], keys[kept])
