"""Linter of vocabularies: phrases that make classes lose, or score, by mistake.  K phrases, E shared width.

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
"""The kind of finding that depends on a model, not on the words alone."""

MOST = 3
"""Largest number of phrases or classes shown of a finding."""


class Finding(NamedTuple):
    """A suspect phrase or pair of phrases.

    Attributes:
        kind: duplicate, repeated, white space, upper case, or near tie.
        classes: indices of the classes.
        phrases: the suspect ones, in quotes where blanks matter.
        note: the consequence; for a known finding, why it stays.
        known: True if ``known.json`` has it.
    """

    kind: str
    classes: tuple[int, ...]
    phrases: tuple[str, ...]
    note: str
    known: bool = False


@cache
def known_findings() -> dict[str, list[dict[str, Any]]]:
    """Read ``<list>/<label set>`` -> ``kind``, ``phrases`` (all of the kind where missing), ``why``."""
    rows_by_list: dict[str, Any] = json.loads(Path(__file__).with_name("known.json").read_text(encoding="utf-8"))
    return {where: rows for where, rows in rows_by_list.items() if where != "about"}


def explained(where: str, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings of a list; known ones carry their reason, and those of one known row become one finding."""
    remaining, known = list(findings), []
    for row in known_findings().get(where, []):
        matching = [
            finding
            for finding in remaining
            if finding.kind == row["kind"] and ("phrases" not in row or list(finding.phrases) == row["phrases"])
        ]
        if matching:
            classes = tuple(dict.fromkeys(number for finding in matching for number in finding.classes))
            phrases = tuple(phrase for finding in matching for phrase in finding.phrases)
            shown = phrases if len(phrases) <= MOST else (*phrases[:MOST], f"{len(phrases) - MOST} more")
            known.append(Finding(row["kind"], classes, shown, f"known: {row['why']}", known=True))
            remaining = [finding for finding in remaining if finding not in matching]
    return remaining + known


def lint(prompts: Phrases) -> list[Finding]:
    """Lint the words alone: a phrase of two classes, a phrase twice in a class, surplus blanks, capitals."""
    owners: dict[str, list[int]] = {}
    for index, phrases in enumerate(prompts):
        for phrase in phrases:
            owners.setdefault(" ".join(phrase.lower().split()), []).append(index)
    findings = []
    for phrase, classes in owners.items():
        distinct = tuple(dict.fromkeys(classes))
        if len(distinct) > 1:
            findings.append(Finding("duplicate", distinct, (phrase,), f"class {distinct[0]} wins every tie, so the others never win by it"))
        elif len(classes) > 1:
            findings.append(Finding("repeated", distinct, (phrase,), "counts twice in a softmax over phrases"))
    return findings + list(_spelling(prompts))


def _spelling(prompts: Phrases) -> Iterator[Finding]:
    for index, phrases in enumerate(prompts):
        for phrase in phrases:
            if phrase != " ".join(phrase.split()):
                yield Finding("white space", (index,), (repr(phrase),), "other tokens with some tokenizers and templates")
            if phrase != phrase.lower():
                yield Finding("upper case", (index,), (phrase,), "other tokens unless the protocol lowers the case")


@torch.no_grad()
def near_ties(model: TextEmbedder, vocabulary: Vocabulary, *, protocol: TopDownProtocol, cosine: float) -> list[Finding]:
    """Return pairs of phrases of two classes with at least this cosine, the highest first, under the protocol's templates.

    The model must be in eval mode; a background without phrases is left out.
    """
    prompts = class_embeddings(model, vocabulary, protocol=protocol)
    phrases = [phrase for words in vocabulary.prompts for phrase in words]
    if len(phrases) > len(prompts.class_index):  # the background's do not compete
        phrases = [phrase for index, words in enumerate(vocabulary.prompts) if index != vocabulary.background for phrase in words]
    cosines = (prompts.vectors @ prompts.vectors.T).cpu()
    index = prompts.class_index.cpu()
    pairs = torch.triu((cosines >= cosine) & (index[:, None] != index[None]), diagonal=1).nonzero()
    rows = sorted(pairs.tolist(), key=lambda pair: -float(cosines[pair[0], pair[1]]))
    return [
        Finding(
            NEAR_TIE,
            (int(index[first]), int(index[second])),
            (phrases[first], phrases[second]),
            f"cosine {float(cosines[first, second]):.4f}",
        )
        for first, second in rows
    ]


def table(rows: Sequence[tuple[str, Finding]]) -> str:
    """Format findings, each with its list, as lines of columns."""
    if not rows:
        return "nothing found"
    cells = [("in", "kind", "classes", "phrases", "note")]
    for where, finding in rows:
        classes = ", ".join(map(str, finding.classes)) if len(finding.classes) <= MOST else f"{len(finding.classes)} classes"
        cells.append((where, finding.kind, classes, " / ".join(finding.phrases), finding.note))
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip() for row in cells)
