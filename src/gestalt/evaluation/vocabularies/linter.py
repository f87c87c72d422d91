"""A linter of vocabularies: phrases that make classes lose, or score, by mistake.  K phrases, E shared width."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from gestalt.evaluation.prompts import TextEmbedder, class_embeddings
from gestalt.evaluation.protocols import TopDownProtocol
from gestalt.evaluation.vocabularies import Phrases, Vocabulary


class Finding(NamedTuple):
    """Something to look at.

    Attributes:
        kind: duplicate, repeated, white space, upper case, or near tie.
        classes: indices of the classes.
        phrases: what is meant, in quotes where blanks matter.
        note: what follows from it.
    """

    kind: str
    classes: tuple[int, ...]
    phrases: tuple[str, ...]
    note: str


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
        Finding("near tie", (int(index[one]), int(index[other])), (phrases[one], phrases[other]), f"cosine {float(alike[one, other]):.4f}")
        for one, other in rows
    ]


def table(rows: Sequence[tuple[str, Finding]]) -> str:
    """Findings with what they were found in, as lines of columns; or that there are none."""
    if not rows:
        return "nothing found"
    cells = [("in", "kind", "classes", "phrases", "note")]
    cells += [(where, one.kind, ", ".join(map(str, one.classes)), " / ".join(one.phrases), one.note) for where, one in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip() for row in cells)
