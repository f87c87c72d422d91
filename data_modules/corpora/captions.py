"""Captions: select and clean the text of a pair, as a pure function of (seed, epoch, index)."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np

from gestalt.data_modules.keys import Captions
from gestalt.data_modules.pixels.bad_samples import BadSample

INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Categories of characters that show nothing: controls, zero-width ones, separators."""

MAX_LENGTH = 10_000
"""Largest number of characters: text towers read some tens of words, and longer texts are whole
pages.
"""


SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

MOST_SENTENCES = {"sentence": 1, "merge3": 3}
"""Part of a caption -> the largest number of neighbouring sentences."""


class Drawn(str):
    """A caption, with the column of a table that it was drawn from."""

    column = ""


class CaptionRule(NamedTuple):
    """Rule that selects a sample's caption.

    Attributes:
        column: name of the caption column, or in tars ``txt`` or a key of the ``.json``; None for
            the source's default.
        choice: among several captions, always the first, or a random one in each epoch; among the
            columns of a table the heaviest one, or one drawn by the weights.
        template: text whose ``{}`` is replaced by the caption, such as ``a photo of {}``; None for
            the caption alone.
        part: what is drawn of a caption, unless ``choice`` is the first.
        table: more captions; None for those of the source alone.
        weights: of the table's columns, and of ``own``, the source's captions; those of weight 0
            are for a sample without others.
    """

    column: str | None = None
    choice: Literal["first", "random"] = "random"
    template: str | None = None
    part: Literal["whole", "sentence", "merge3"] = "whole"
    table: Captions | None = None
    weights: Mapping[str, float] = {}


ANY_CAPTION = CaptionRule()
"""A random caption in each epoch, without a template."""


def choose_caption(
    captions: object, rule: CaptionRule, *, seed: int, epoch: int, index: int
) -> str:
    """Return the caption of a sample, stripped of white space; if the drawn one cannot be used,
    draw another.

    Of a table, one column is drawn by the weights of those that the sample can use.  It is the law
    of open_clip's pull request 1183, whose random order without replacement ends at the first
    column with a text.

    Args:
        captions: a text, UTF-8 bytes, or a list of these, or by column of a table; None if the
            sample has no caption.
        rule: selection and template.
        seed: seed of the draw, with epoch and index.
        epoch: epoch in which the pair is drawn.
        index: index of the pair in its source.

    Raises:
        BadSample: every caption that may be drawn is missing, empty, not UTF-8, or longer than
            ``MAX_LENGTH`` characters.
    """
    texts = listed_texts(captions, rule)
    drawn = rule.choice == "random" and (len(texts) > 1 or rule.part != "whole")
    first, second, column, count, position = (
        np.random.default_rng([seed, epoch, index, 2]).random(5) if drawn else [0.0] * 5
    )
    name = ""
    if rule.table is not None:
        name, texts = _draw_column(captions, rule, column)
    if not texts:
        raise BadSample("missing_caption")
    try:
        text = clean_caption(texts[int(first * len(texts))])
    except BadSample:
        usable = usable_texts(texts, rule)
        if not usable:
            raise
        text = usable[int(second * len(usable))]
    if most := rule.choice == "random" and MOST_SENTENCES.get(rule.part):
        sentences = SENTENCE_END.split(text)
        length = min(1 + int(count * most), len(sentences))
        start = int(position * (len(sentences) - length + 1))
        text = " ".join(sentences[start : start + length])
    caption = Drawn(text if rule.template is None else rule.template.replace("{}", text))
    caption.column = name
    return caption


def _draw_column(captions: Any, rule: CaptionRule, draw: float) -> tuple[str, list[object]]:
    """Draw a column, the heaviest for 0, among those with a usable text.  Returns its name and
    texts; without any, all texts.
    """
    usable = [name for name in rule.weights if usable_texts(captions[name], rule)]
    usable.sort(key=lambda name: rule.weights[name], reverse=True)
    ends = np.cumsum([rule.weights[name] for name in usable])
    if not usable:
        return "", listed_texts(captions, rule)
    name = usable[int(np.searchsorted(ends, draw * ends[-1]))]
    return name, listed_texts(captions[name], rule)


def listed_texts(captions: object, rule: CaptionRule = ANY_CAPTION) -> list[object]:
    """Return those of a sample's captions that a rule may select; empty for None."""
    if isinstance(captions, Mapping):
        return [text for column in captions.values() for text in listed_texts(column, rule)]
    if isinstance(captions, str | bytes):
        return [captions]
    texts = list(captions) if isinstance(captions, Sequence) else []
    return texts[:1] if rule.choice == "first" else texts


def usable_texts(captions: object, rule: CaptionRule) -> list[str]:
    """Return those of a sample's captions that a rule may select and that can be used, stripped of
    white space, without the template.
    """
    texts = []
    for text in listed_texts(captions, rule):
        with suppress(BadSample):
            texts.append(clean_caption(text))
    return texts


def clean_caption(text: object) -> str:
    """Return a text stripped of white space.

    Raises:
        BadSample: it cannot be used as a caption.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        if not isinstance(text, str):
            raise BadSample("missing_caption", f"expected a text, got {type(text).__name__}")
        text.encode()
    except UnicodeDecodeError as error:
        raise BadSample("caption_encoding", f"byte {error.start} is not UTF-8") from error
    except UnicodeEncodeError as error:
        raise BadSample("caption_encoding", f"half a character at {error.start}") from error
    text = text.strip()
    if all(unicodedata.category(letter) in INVISIBLE for letter in text):
        raise BadSample("empty_caption", "only invisible characters" if text else "")
    if len(text) > MAX_LENGTH:
        raise BadSample("caption_too_long", f"{len(text):,} characters")
    return text
