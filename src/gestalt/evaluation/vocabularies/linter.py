"""A linter of vocabularies: phrases that make classes lose, or score, by mistake.  K phrases, E shared width.

``known.json`` says which findings are known and stay, and why.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gestalt.evaluation.prompts import TextEmbedder, class_embeddings
from gestalt.evaluation.protocols import TopDownProtocol
from gestalt.evaluation.vocabularies import Phrases, Vocabulary

NEAR_TIE = "near tie"
"""The kind of finding that a model makes, and not the words."""

MOST = 3
"""Phrases or classes of one finding that are shown."""


class Finding(NamedTuple):
    """Something to look at.

    Attributes:
        kind: duplicate, repeated, white space, upper case, or near tie.
        classes: indices of the classes.
        phrases: what is meant, in quotes where blanks matter.
        note: what follows from it; or, of one that is known, why it stays.
        known: whether it is.
    """

    kind: str
    classes: tuple[int, ...]
    phrases: tuple[str, ...]
    note: str
    known: bool = False


@cache
def known_findings() -> dict[str, list[dict[str, Any]]]:
    """``<list>/<label set>`` -> ``kind``, ``phrases`` (without: all of the kind), ``why``."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("known.json").read_text(encoding="utf-8"))
    return {where: rows for where, rows in found.items() if where != "about"}


def explained(where: str, findings: Sequence[Finding]) -> list[Finding]:
    """The findings of one list, each that is known with its reason; where all of a kind are, one for all of them."""
    left, found = list(findings), []
    for row in known_findings().get(where, []):
        meant = [one for one in left if one.kind == row["kind"] and ("phrases" not in row or list(one.phrases) == row["phrases"])]
        if meant:
            classes = tuple(dict.fromkeys(number for one in meant for number in one.classes))
            phrases = tuple(phrase for one in meant for phrase in one.phrases)
            shown = phrases if len(phrases) <= MOST else (*phrases[:MOST], f"{len(phrases) - MOST} more")
            found.append(Finding(row["kind"], classes, shown, f"known: {row['why']}", known=True))
            left = [one for one in left if one not in meant]
    return left + found


def lint(prompts: Phrases) -> list[Finding]:
    """What words alone show: a phrase of two classes, one twice in a class, blanks that do not belong, capitals."""
    owners: dict[str, list[int]] = {}
    for index, phrases in enumerate(prompts):
        for phrase in phrases:
            owners.setdefault(" ".join(phrase.lower().split()), []).append(index)
    found = []
    for phrase, classes in owners.items():
        apart = tuple(dict.fromkeys(classes))
        if len(apart) > 1:
            found.append(Finding("duplicate", apart, (phrase,), f"class {apart[0]} wins every tie, so that the others never do by it"))
        elif len(classes) > 1:
            found.append(Finding("repeated", apart, (phrase,), "counts twice in a softmax over phrases"))
    return found + list(_spelling(prompts))


def _spelling(prompts: Phrases) -> Iterator[Finding]:
    for index, phrases in enumerate(prompts):
        for phrase in phrases:
            if phrase != " ".join(phrase.split()):
                yield Finding("white space", (index,), (repr(phrase),), "other tokens with some tokenizers and templates")
            if phrase != phrase.lower():
                yield Finding("upper case", (index,), (phrase,), "other tokens unless the protocol lowers the case")


@torch.no_grad()
def near_ties(model: TextEmbedder, vocabulary: Vocabulary, *, protocol: TopDownProtocol, cosine: float) -> list[Finding]:
    """Phrases of two classes whose vectors are at least so alike, the most alike first, under the protocol's templates.

    Args:
        model: in eval mode.
        vocabulary: a background without phrases is left out.
        protocol: templates.
        cosine: in [-1, 1].
    """
    prompts = class_embeddings(model, vocabulary, protocol=protocol)
    phrases = [phrase for words in vocabulary.prompts for phrase in words]
    if len(phrases) > len(prompts.class_index):  # the background's do not compete
        phrases = [phrase for index, words in enumerate(vocabulary.prompts) if index != vocabulary.background for phrase in words]
    alike = (prompts.vectors @ prompts.vectors.T).cpu()
    index = prompts.class_index.cpu()
    pairs = torch.triu((alike >= cosine) & (index[:, None] != index[None]), diagonal=1).nonzero()
    rows = sorted(pairs.tolist(), key=lambda pair: -float(alike[pair[0], pair[1]]))
    return [
        Finding(NEAR_TIE, (int(index[one]), int(index[other])), (phrases[one], phrases[other]), f"cosine {float(alike[one, other]):.4f}")
        for one, other in rows
    ]


def table(rows: Sequence[tuple[str, Finding]]) -> str:
    """Findings with what they were found in, as lines of columns; or that there are none."""
    if not rows:
        return "nothing found"
    cells = [("in", "kind", "classes", "phrases", "note")]
    for where, one in rows:
        classes = ", ".join(map(str, one.classes)) if len(one.classes) <= MOST else f"{len(one.classes)} classes"
        cells.append((where, one.kind, classes, " / ".join(one.phrases), one.note))
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip() for row in cells)
