"""Retrieval: recall of one captioned image set at each evaluation.  N images."""

from typing import Any

from gestalt.measures.callback import Batch, Entry, Scorer
from gestalt.measures.context import Context
from gestalt.measures.retrieval.engine import embed_captions, embed_images
from gestalt.measures.retrieval.metric import RetrievalRecall, RetrievalScore
from gestalt.support.arrays import Ints


class Retrieval(Scorer):
    """Rank every caption for every image of a set and the reverse, and log the recalls; captions
    are embedded as they are written.

    Args:
        name, options: as ``Scorer``.
    """

    measure, needs = "retrieval", ("captions",)

    def __init__(self, name: str, **options: Any) -> None:
        options |= {"metrics": {"model": RetrievalRecall()}, "length": None}
        super().__init__(name, **options)

    def score(self, model: Any, batch: Batch, truth: Any) -> tuple[()]:
        """Embed a batch; nothing is drawn."""
        image = embed_images(model, batch["image"], self.protocol)
        self.metrics["model"].update(
            image,
            embed_captions(model, truth, like=image),
            sample_id=batch["sample_id"],
            captions=truth,
        )
        return ()

    def values(self, score: RetrievalScore) -> dict[str, float]:
        """Return recall at each k, in both directions, and their mean."""
        return score.recalls

    def entry(self, score: RetrievalScore) -> Entry:
        """Return the integer hits."""
        return {
            "captions": score.captions,
            "hits": {key: int(counts[:, 0].sum()) for key, counts in score.image_hits.items()},
        }

    def arrays(self, score: RetrievalScore) -> dict[str, Ints]:
        """Return ``<direction>_recall_at_<k>``: hits and queries of each image, (N, 2)."""
        return score.image_hits


def build(context: Context) -> Retrieval:
    """Build the scorer of a benchmark's captions at the configured size."""
    return context.scorer(Retrieval)
