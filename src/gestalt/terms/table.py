"""The terms of the loss by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from gestalt.support.plugins import Registry
from gestalt.terms import Term
from gestalt.terms.hard_negatives import HardNegatives
from gestalt.terms.nouns import Nouns
from gestalt.terms.self_distillation import SelfDistillation
from gestalt.terms.text_conditioned import TextConditioned
from gestalt.tokens import Padded


class Parts(NamedTuple):
    """The parts that a term is built from.

    Attributes:
        loss: the configuration of the loss.
        phrases: V nouns as the text tower reads them; None without a term that reads nouns.
        tower_width: channels of the image tower's tokens.
        width: channels of the shared space.
        alike: (V, V) bool, the nouns that are not negatives of each other; None for each noun itself only.
    """

    loss: Any
    phrases: Padded | None
    tower_width: int
    width: int
    alike: Tensor | None = None


def _hard_negatives(parts: Parts) -> Term:
    assert parts.phrases is not None
    return HardNegatives(parts.phrases, alike=parts.alike)


def _nouns(parts: Parts) -> Term:
    assert parts.phrases is not None
    loss = parts.loss
    return Nouns(parts.phrases, pooling=loss.nouns_pooling, temperature=loss.nouns_temperature, alike=parts.alike)


def _text_conditioned(parts: Parts) -> Term:
    return TextConditioned(temperature=parts.loss.text_conditioned_temperature)


def _self_distillation(parts: Parts) -> Term:
    prototypes = parts.loss.self_distillation_prototypes
    return SelfDistillation(tower_width=parts.tower_width, width=parts.width, prototypes=prototypes)


_ROWS: dict[str, Callable[[Parts], Term]] = {
    "hard_negatives": _hard_negatives,
    "nouns": _nouns,
    "self_distillation": _self_distillation,
    "text_conditioned": _text_conditioned,
}
TERMS = Registry("terms", _ROWS)
"""Name -> function that builds the term from ``Parts``; installed packages may add some."""
