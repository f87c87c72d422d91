"""Vocabularies: the phrases that name the classes of a label set, by the list that a protocol
names.

``phrases.json`` holds the field's lists as facts, each with its source.  To add one: a list there,
or a label set in a list.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gestalt.data_modules.image_sets import LabelSet

OWN = "label_set"
"""Name of the label set's own phrases."""

Phrases = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Vocabulary(LabelSet):
    """A label set, its classes named by a list; a background that the list does not name has no
    phrases.

    Attributes:
        list_name: the list that the phrases are from, ``label_set`` for the label set's own.
        why: the reason if the protocol names another list; otherwise empty.
    """

    list_name: str = OWN
    why: str = ""


@cache
def lists() -> dict[str, Any]:
    """Read list name -> label set -> ``source``, and ``first_class`` and ``phrases``; or ``as``,
    the list that has the same phrases.
    """
    return json.loads(Path(__file__).with_name("phrases.json").read_bytes())["lists"]


def phrases_of(name: str, *, label_set: str) -> tuple[int, Phrases] | None:
    """Return the first class that a list names, and the phrases from it on; None where the list
    lacks the label set.

    Raises:
        ValueError: unknown list.
    """
    if name not in lists():
        raise ValueError(f"unknown vocabulary {name!r}; known: {OWN}, {', '.join(lists())}")
    row = lists()[name].get(label_set)
    if row is None:
        return None
    if "as" in row:
        return phrases_of(row["as"], label_set=label_set)
    return row["first_class"], tuple(tuple(words) for words in row["phrases"])


def name_classes(
    labels: LabelSet, *, label_set: str, vocabulary: str, defects: str = "strict"
) -> Vocabulary:
    """Name the classes of a label set by a list, or by the label set's own phrases where the list
    lacks it.

    Args:
        labels: classes with their own phrases.
        label_set: its name in the list.
        vocabulary: the list, or ``label_set``.
        defects: "fixed" to mend the phrases.

    Raises:
        ValueError: the list names another number of classes than the label set has.
    """
    listed = None if vocabulary == OWN else phrases_of(vocabulary, label_set=label_set)
    prompts, name, why = labels.prompts, OWN, ""
    if listed is not None:
        first, phrases = listed
        if first + len(phrases) != len(labels.names):
            raise ValueError(
                f"vocabulary {vocabulary} names classes {first} to {first + len(phrases) - 1} of "
                f"{label_set}, which has {len(labels.names)} classes"
            )
        prompts, name = ((),) * first + phrases, vocabulary
    elif vocabulary != OWN:
        why = f"{vocabulary} names no classes of {label_set}"
    if defects == "fixed":
        prompts = mend(prompts, background=labels.background)
    return Vocabulary(
        labels.names, prompts=prompts, background=labels.background, list_name=name, why=why
    )


def mend(prompts: Phrases, *, background: int | None) -> Phrases:
    """Strip blanks, and drop background words that also name a class, such as COCO's bed, and make
    it lose by mistake.
    """
    bare = [tuple(dict.fromkeys(phrase.strip() for phrase in phrases)) for phrases in prompts]
    if background is not None:
        taken = {
            phrase
            for index, phrases in enumerate(bare)
            for phrase in phrases
            if index != background
        }
        bare[background] = tuple(phrase for phrase in bare[background] if phrase not in taken)
    return tuple(bare)
