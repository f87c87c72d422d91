"""vocabulary: lint the lists of phrases that name classes."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping

from gestalt.building.evaluation import own_phrases
from gestalt.building.targets import open_target
from gestalt.commands.process import announce, quiet
from gestalt.encoders.dense_model import DenseModel
from gestalt.evaluation.protocols import build_protocol
from gestalt.evaluation.vocabularies import OWN, Phrases, Vocabulary, lists, phrases_of
from gestalt.evaluation.vocabularies.linter import NEAR_TIE, Finding, explained, lint, near_ties, table


def run(arguments: Namespace) -> int:
    """Print the findings; the exit status is 1 if some are not known."""
    report, unknown = vocabulary(list_names=arguments.list, label_sets=arguments.label_set, target=arguments.ckpt, cosine=arguments.cosine)
    print(report)
    if unknown:
        mend = "correct the phrases, or say in evaluation/vocabularies/known.json why they stay"
        print(f"gestalt: findings that are not known: {unknown}; {mend}", file=sys.stderr)
    return 1 if unknown else 0


def vocabulary(*, list_names: list[str], label_sets: list[str], target: str | None, cosine: float) -> tuple[str, int]:
    """Lint the field's lists of phrases and the label sets' own phrases; with a checkpoint, list the near-ties of its text tower too.

    Returns:
        A table, and the number of its findings, near-ties excepted, that are not known.

    Raises:
        ValueError: no such list or label set.
    """
    for name in list_names:
        if name != OWN:
            phrases_of(name, label_set="")  # raises for an unknown list
    label_set_phrases = own_phrases()
    known = sorted({*label_set_phrases, *(label_set for rows in lists().values() for label_set in rows)})
    for label_set in label_sets:
        if label_set not in known:
            raise ValueError(f"no list names label set {label_set!r}; known: {', '.join(known)}")
    model = _text_model(target) if target else None
    rows: list[tuple[str, Finding]] = []
    for where, first, words in _named(list_names or [*lists(), OWN], label_set_phrases=label_set_phrases, all_of_them=not list_names):
        if label_sets and where.partition("/")[2] not in label_sets:
            continue
        findings = explained(first, lint(words))
        if model is not None:
            findings += near_ties(model, _compete(words), protocol=build_protocol("whole_square"), cosine=cosine)
        rows += [(where, finding) for finding in findings]
    return table(rows), sum(not finding.known and finding.kind != NEAR_TIE for _, finding in rows)


def _named(names: list[str], *, label_set_phrases: Mapping[str, Phrases], all_of_them: bool) -> Iterator[tuple[str, str, Phrases]]:
    """Yield ``<list>/<label set>``, the same of the list that its phrases come from, and the phrases; each phrase list once."""
    for name in names:
        if name == OWN:
            yield from ((f"{OWN}/{label_set}", f"{OWN}/{label_set}", words) for label_set, words in label_set_phrases.items())
            continue
        for label_set, row in lists()[name].items():
            if not ("as" in row and all_of_them):
                first, phrases = phrases_of(name, label_set=label_set) or (0, ())
                yield f"{name}/{label_set}", f"{row.get('as', name)}/{label_set}", ((),) * first + phrases


def _compete(words: Phrases) -> Vocabulary:
    """Return the phrases as classes, each named by its first phrase."""
    kept = tuple(phrases or ("background",) for phrases in words)
    return Vocabulary(tuple(phrases[0] for phrases in kept), prompts=kept, background=None)


def _text_model(target: str) -> DenseModel:
    quiet()
    opened = open_target(target)
    announce(opened.origin)
    model = opened.model
    if not model.has_text:
        raise ValueError(f"--ckpt {target}: it is vision-only and has no text tower; choose a model with text")
    return model
