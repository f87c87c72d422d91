"""Labels of a user as classes, with warnings of those that the text tower reads as one or
cuts.  K labels, E shared width.
"""

import warnings
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from gestalt.evaluation.prompts import ClassEmbeddings, class_embeddings, expand
from gestalt.evaluation.vocabularies import Vocabulary
from gestalt.measures.segmentation.protocol import TopDownProtocol
from gestalt.support.caveats import Caveat
from gestalt.support.label_values import WIDE

SIMILAR = 1 - 1e-6
"""Least cosine of two labels that the text tower cannot tell apart: they are the same tokens, and
differ by rounding alone.
"""

ROWS_AT_ONCE = 1024
"""Labels that are compared with all at one time."""

SHOWN = 60
"""Most characters of a label in a warning."""


def label_prompts(model: Any, labels: Sequence[str], protocol: TopDownProtocol) -> ClassEmbeddings:
    """Embed labels as classes; under a threshold, one class more, ``len(labels)``, stands for what
    is below it.

    Warns of labels that the text tower cannot tell apart, of which the first wins each tie, and of
    labels that it cuts.

    Raises:
        ValueError: no labels, or too many for a label map; or as ``used_prompts``.
    """
    if not 1 <= len(labels) < WIDE:
        raise ValueError(
            f"{len(labels)} labels were given; give 1 to {WIDE - 1}, such as 'dog, cat, grass'"
        )
    phrases: tuple[tuple[str, ...], ...] = tuple((label,) for label in labels)
    weighed = protocol.prior != 0 and "background" in labels
    background = labels.index("background") if weighed else None
    words = Vocabulary(tuple(labels), prompts=phrases, background=background)
    if protocol.background == "threshold":
        words = Vocabulary((*labels, "background"), prompts=(*phrases, ()), background=len(labels))
    prompts = class_embeddings(model, words, protocol=protocol)
    first = _first_similar(prompts.vectors)
    winners = first.tolist()
    shared = sorted({winner for number, winner in enumerate(winners) if winner != number})
    for index in shared:
        similar = _quoted(
            label for label, winner in zip(labels, winners, strict=True) if winner == index
        )
        warnings.warn(
            f"the text tower cannot tell the labels {similar} apart: the first has the pixels of "
            "all",
            Caveat,
            stacklevel=2,
        )
    tower = getattr(model, "text_tower", None)  # of our own models only
    if tower is not None:
        cut = [
            label
            for label in labels
            if max(map(len, tower.tokenise(expand(label, protocol=protocol), cut=False)))
            > tower.max_length
        ]
        if cut:
            text = (
                f"the text tower reads {tower.max_length} tokens and cuts the prompts of the "
                f"labels {_quoted(cut)}"
            )
            warnings.warn(text, Caveat, stacklevel=2)
    return prompts._replace(twin=first) if shared else prompts


def _first_similar(vectors: Tensor) -> Tensor:
    """Return for each of (K, E) unit vectors the first that equals it up to rounding, (K,) int64;
    in float64, beyond autocast and TF32.
    """
    exact = vectors.double()
    return torch.cat(
        [
            (rows @ exact.T >= SIMILAR).int().argmax(dim=1)
            for rows in torch.split(exact, ROWS_AT_ONCE)
        ]
    )


def _quoted(labels: Iterable[str]) -> str:
    return ", ".join(f'"{shorten(label, SHOWN, placeholder=" ...")}"' for label in labels)
