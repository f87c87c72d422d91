"""vocabulary: lint the lists of phrases that name classes."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping

from gestalt.building.checkpoint import load_model
from gestalt.building.evaluation import own_phrases
from gestalt.commands.process import quiet
from gestalt.config.loading import load_saved
from gestalt.evaluation.protocols import build_protocol
from gestalt.evaluation.vocabularies import OWN, Phrases, Vocabulary, lists, phrases_of
from gestalt.evaluation.vocabularies.linter import NEAR_TIE, Finding, explained, lint, near_ties, table
from gestalt.model import DualEncoder
from gestalt.runs.names import resolve_checkpoint, run_folder


def run(arguments: Namespace) -> int:
    """Print the findings; the exit status is 1 if some are not known."""
    report, unknown = vocabulary(
        lists_wanted=arguments.list, label_sets=arguments.label_set, target=arguments.ckpt, cosine=arguments.cosine
    )
    print(report)
    if unknown:
        mend = "mend the words, or say in evaluation/vocabularies/known.json why they stay"
        print(f"gestalt: {unknown} not known; {mend}", file=sys.stderr)
    return 1 if unknown else 0


def vocabulary(*, lists_wanted: list[str], label_sets: list[str], target: str | None, cosine: float) -> tuple[str, int]:
    """What the linter finds in the field's lists of phrases and in the label sets' own; with a checkpoint near-ties of its text tower too.

    Returns:
        A table, and how many of its findings by words alone are not known.

    Raises:
        ValueError: no such list or label set.
    """
    for name in lists_wanted:
        if name != OWN:
            phrases_of(name, label_set="")  # refuses what is unknown
    own = own_phrases()
    known = sorted({*own, *(label_set for rows in lists().values() for label_set in rows)})
    for label_set in label_sets:
        if label_set not in known:
            raise ValueError(f"no list names label set {label_set!r}; known: {', '.join(known)}")
    model = _text_model(target) if target else None
    rows: list[tuple[str, Finding]] = []
    for where, first, words in _named(lists_wanted or [*lists(), OWN], own=own, all_of_them=not lists_wanted):
        if label_sets and where.partition("/")[2] not in label_sets:
            continue
        found = explained(first, lint(words))
        if model is not None:
            found += near_ties(model, _compete(words), protocol=build_protocol("whole_square"), cosine=cosine)
        rows += [(where, one) for one in found]
    return table(rows), sum(not one.known and one.kind != NEAR_TIE for _, one in rows)


def _named(names: list[str], *, own: Mapping[str, Phrases], all_of_them: bool) -> Iterator[tuple[str, str, Phrases]]:
    """``<list>/<label set>``, the same of the list that its phrases are of, and these; of all lists, each phrase list once."""
    for name in names:
        if name == OWN:
            yield from ((f"{OWN}/{label_set}", f"{OWN}/{label_set}", words) for label_set, words in own.items())
            continue
        for label_set, row in lists()[name].items():
            if not ("as" in row and all_of_them):
                first, phrases = phrases_of(name, label_set=label_set) or (0, ())
                yield f"{name}/{label_set}", f"{row.get('as', name)}/{label_set}", ((),) * first + phrases


def _compete(words: Phrases) -> Vocabulary:
    """Classes with phrases, each under its own number."""
    kept = tuple(phrases or ("background",) for phrases in words)
    return Vocabulary(tuple(phrases[0] for phrases in kept), prompts=kept, background=None)


def _text_model(target: str) -> DualEncoder:
    quiet()
    checkpoint = resolve_checkpoint(target)
    return load_model(checkpoint, load_saved(run_folder(checkpoint) / "config.yaml")).eval()
