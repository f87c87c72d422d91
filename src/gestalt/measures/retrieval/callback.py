"""Retrieval: recall of one captioned image set at each evaluation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gestalt.evaluation.protocols import ImageProtocol
from gestalt.measures.callback import Scorer, without_nan
from gestalt.measures.retrieval.engine import embed_captions, embed_images
from gestalt.measures.retrieval.metric import RetrievalRecall, RetrievalScore


class Retrieval(Scorer[RetrievalScore]):
    """Ranks every caption for every image of a set and the reverse, whatever the number of ranks, and logs the recalls.

    Args:
        name: of the benchmark.
        protocol: how images are resized; captions are embedded as they are written.
        image_set: as ``Scorer``.

    Raises:
        ValueError: as ``Scorer``.
    """

    measure, needs = "retrieval", "captions"

    def __init__(self, name: str, *, protocol: ImageProtocol, image_set: str | None = None) -> None:
        super().__init__(name, metrics={"model": RetrievalRecall()}, image_set=image_set)
        self.protocol = protocol

    def score(self, model: Any, batch: Mapping[str, Any]) -> tuple[()]:
        """Embed a batch; there is nothing to draw."""
        image = embed_images(model, batch["image"], protocol=self.protocol)
        text = embed_captions(model, batch["captions"], like=image)
        self.metrics["model"].update(image, text, sample_id=batch["sample_id"], captions=batch["captions"])
        return ()

    def logged(self) -> dict[str, float]:
        """Recall at each k, both ways and their mean."""
        return without_nan(self.name, self.scores["model"].recalls if self.scores else {})

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record: metrics, integer hits, provenance.  Empty before the first."""
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {
            **self.heading(self.protocol),
            "images": score.images,
            "captions": score.captions,
            "hits": dict(score.hits),
        }

    def per_image(self) -> dict[str, NDArray[np.int64]]:
        """``<set>/<direction>_recall_at_<k>``: hits and queries of each image, (N, 2) in order of id; empty before the first score."""
        image_hits = self.scores["model"].image_hits if self.scores else {}
        return {f"{self.name}/{key}": counts for key, counts in image_hits.items()}
