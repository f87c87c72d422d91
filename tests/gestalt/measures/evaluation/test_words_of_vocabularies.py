"""The phrases that name classes: duplicates, surplus blanks and capitals, by which a class loses or
scores by mistake.
"""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files

from gestalt.data_modules import image_sets
from gestalt.data_modules.labels.masks import read_tables
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.vocabularies import lists, phrases_of

KNOWN = {
    (
        "sclip/context60",
        "blanks",
        "wood ",
    ): "as its source has it; evaluation.defects=fixed strips it",
    (
        "sclip/coco_object_81",
        "two classes",
        "bed",
    ): "as its source has it; evaluation.defects=fixed takes it from the background",
    (
        "proxyclip/coco_object_81",
        "two classes",
        "bed",
    ): "as its source has it; evaluation.defects=fixed takes it from the background",
    (
        "tcl/ade20k_150",
        "blanks",
        "bed ",
    ): "as its source has it; evaluation.defects=fixed strips it",
    (
        "imagenet_1000",
        "two classes",
        "missile",
    ): "open_clip's list names both n03773504 and n04008634 so; the second is never said",
    (
        "imagenet_1000",
        "two classes",
        "sunglasses",
    ): "open_clip's list names both n04355933 and n04356056 so; the second is never said",
    (
        "imagenet_1000",
        "capitals",
        "",
    ): "names of breeds and places, as open_clip's list has them; CLIP's tokenizer lowers the case",
}
"""List and label set, defect and phrase (none for all of the defect) -> why it stays."""


def label_sets() -> Iterator[tuple[str, object]]:
    """The label sets of all image sets but the scenes of other recipes, without their data."""
    for file in files(image_sets).joinpath("tables").iterdir():
        if file.name.endswith(".json"):
            for name, table in read_tables(file.name.removesuffix(".json")).items():
                yield name, table.labels
    for module in pkgutil.iter_modules(image_sets.__path__):
        yield from getattr(
            import_module(f"{image_sets.__name__}.{module.name}"), "LABELS", {}
        ).items()


def every_list() -> Iterator[tuple[str, tuple[tuple[str, ...], ...]]]:
    """The phrases of each class, of each list of the field and of each label set; lists that reuse
    another's are left out.
    """
    for name, rows in lists().items():
        for label_set in rows:
            if "as" not in rows[label_set]:
                first, phrases = phrases_of(name, label_set=label_set)
                yield f"{name}/{label_set}", ((),) * first + phrases
    for name, labels in label_sets():
        yield name, labels.prompts


def defects(prompts) -> Iterator[tuple[str, str]]:
    """Kind and phrase of each defect."""
    owners: dict[str, list[int]] = {}
    for number, phrases in enumerate(prompts):
        for phrase in phrases:
            owners.setdefault(" ".join(phrase.lower().split()), []).append(number)
            if phrase != " ".join(phrase.split()):
                yield "blanks", phrase
            if phrase != phrase.lower():
                yield "capitals", phrase
    for phrase, classes in owners.items():
        if len(set(classes)) > 1:
            yield "two classes", phrase
        elif len(classes) > 1:
            yield "repeated", phrase


def test_the_lists_have_the_known_defects_and_no_other():
    found = set()
    for where, prompts in every_list():
        for kind, phrase in defects(prompts):
            found.add((where, kind, "" if (where, kind, "") in KNOWN else phrase))
    assert found == set(KNOWN)


def test_the_phrases_of_every_benchmark_are_checked():
    scenes = {"scenes", "scenes_classes"}
    checked = {name for name, _ in label_sets()}
    assert {row.label_set for row in BENCHMARKS.values() if row.label_set} - scenes <= checked
