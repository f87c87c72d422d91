"""Captions: from what lies beside an image to the one text of a pair, a pure function of (seed, epoch, index)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_modules.corpora.bad_samples import BadSample

LONGEST = 10_000
"""Characters.  The longest caption that is one: text towers read some tens of words, and what is longer is a page."""


@dataclass(frozen=True)
class CaptionRule:
    """Which text of a sample is its caption.

    Attributes:
        column: name of the column that holds it, or in tars ``txt`` or a key of the ``.json``; None for what the source has by itself.
        choice: where a sample has several, always the first, or one at random in each epoch.
        template: what a caption is put into at its ``{}``, such as ``a photo of {}``; None leaves it as it is.
    """

    column: str | None = None
    choice: Literal["first", "random"] = "random"
    template: str | None = None


ANY_CAPTION = CaptionRule()
"""One at random in each epoch, as it is."""


def choose_caption(found: object, rule: CaptionRule, *, seed: int, epoch: int, index: int, where: str, key: str) -> str:
    """The caption of a sample, without white space at its ends.

    Args:
        found: text, UTF-8 bytes, or several of them; None where the sample has none.
        rule: which of them, and in what template.
        seed: of the choice, with epoch and index.
        epoch: that the pair is drawn in.
        index: of the pair in its source.
        where: the shard, for the message.
        key: the sample's name there, for the message.

    Raises:
        BadSample: no caption, an empty one, bytes that are not UTF-8, or a text of more than ``LONGEST`` characters.
    """
    texts = listed_texts(found)
    if not texts:
        raise BadSample("missing_caption", where=where, key=key)
    several = rule.choice == "random" and len(texts) > 1
    drawn = int(np.random.default_rng([seed, epoch, index, 2]).random() * len(texts)) if several else 0
    text = clean_caption(texts[drawn], where=where, key=key)
    return text if rule.template is None else rule.template.replace("{}", text)


def listed_texts(found: object) -> list[object]:
    """What a sample has for captions, one or several, as a list."""
    return [found] if isinstance(found, str | bytes) else list(found) if isinstance(found, Sequence) else []


def clean_caption(text: object, *, where: str, key: str) -> str:
    """A text without white space at its ends.

    Raises:
        BadSample: it is no caption; says why.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadSample("caption_encoding", where=where, key=key, detail=f"byte {error.start} is not UTF-8") from error
    if not isinstance(text, str):
        raise BadSample("missing_caption", where=where, key=key, detail=f"{type(text).__name__} where a text should be")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadSample("caption_encoding", where=where, key=key, detail=f"half a character at {error.start}") from error
    text = text.strip()
    if not text:
        raise BadSample("empty_caption", where=where, key=key)
    if len(text) > LONGEST:
        raise BadSample("caption_too_long", where=where, key=key, detail=f"{len(text):,} characters")
    return text
