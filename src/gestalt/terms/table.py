"""The terms of the loss by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gestalt.support.plugins import Registry
from gestalt.terms import Term
from gestalt.terms.nouns import Nouns
from gestalt.terms.text_conditioned import TextConditioned
from gestalt.tokens import Padded


class Parts(NamedTuple):
    """The parts that a term is built from.

    Attributes:
        loss: the configuration of the loss.
        phrases: V nouns as the text tower reads them; None without a term that reads nouns.
    """

    loss: Any
    phrases: Padded | None


def _nouns(parts: Parts) -> Term:
    assert parts.phrases is not None
    return Nouns(parts.phrases, pooling=parts.loss.nouns_pooling, temperature=parts.loss.nouns_temperature)


def _text_conditioned(parts: Parts) -> Term:
    return TextConditioned(temperature=parts.loss.text_conditioned_temperature)


TERMS: Registry[Callable[[Parts], Term]] = Registry("terms", {"nouns": _nouns, "text_conditioned": _text_conditioned})
"""Name -> function that builds the term from ``Parts``; installed packages may add some."""
