"""Vocabularies: the field's lists are complete, and a label set is named by them or records why
not; duplicates, blanks and capitals, by which a class loses or scores by mistake, are known.
"""

import dataclasses
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files

import pytest

from gestalt.data_modules import image_sets
from gestalt.data_modules.labels import class_tables
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.prompts import used_prompts
from gestalt.measures.evaluation.vocabularies import lists, mend, name_classes, phrases_of
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol
from tests.gestalt.painted import Words

CLASSES = {
    "voc21": 21,
    "voc20": 20,
    "context60": 60,
    "context59": 59,
    "coco_object_81": 81,
    "coco_stuff_171": 171,
    "ade20k_150": 150,
    "cityscapes_19": 19,
}
BACKGROUND = ("voc21", "context60", "coco_object_81")
ROWS = [(name, label_set) for name, rows in lists().items() for label_set in rows]


def words(label_set: str) -> Words:
    names = tuple(f"class {index}" for index in range(CLASSES[label_set]))
    return Words(
        names,
        prompts=tuple((name,) for name in names),
        background=0 if label_set in BACKGROUND else None,
    )


@pytest.mark.parametrize(
    ("name", "label_set"), ROWS, ids=[f"{name}-{label_set}" for name, label_set in ROWS]
)
def test_a_list_names_every_class_and_records_its_source(name, label_set):
    found = phrases_of(name, label_set=label_set)
    first, phrases = found
    assert first + len(phrases) == CLASSES[label_set]
    assert first == 0 or label_set in BACKGROUND
    assert all(each and all(each) for each in phrases)
    assert lists()[name][label_set]["source"]


def test_bed_is_also_a_background_phrase_unless_defects_are_fixed():
    strict, fixed = (
        name_classes(
            words("coco_object_81"), label_set="coco_object_81", vocabulary="sclip", defects=defects
        )
        for defects in ("strict", "fixed")
    )
    assert "bed" in strict.prompts[0]
    assert "bed" in strict.prompts[60]
    assert "bed" not in fixed.prompts[0]
    assert fixed.prompts[60] == ("bed",)
    assert mend((("bed", "wall "), ("bed",)), background=0) == (("wall",), ("bed",))


def test_a_label_set_missing_from_a_list_keeps_its_phrases_and_records_why():
    own = Words(("background", "apple"), prompts=(("grass",), ("apple",)), background=0)
    vocabulary = name_classes(own, label_set="scenes", vocabulary="tcl")
    assert (vocabulary.prompts, vocabulary.list_name) == (own.prompts, "label_set")
    assert vocabulary.why == "tcl names no classes of scenes"


def test_a_list_of_another_number_of_classes_is_refused():
    with pytest.raises(
        ValueError, match="vocabulary sclip names classes 0 to 20 of voc21, which has 20 classes"
    ):
        name_classes(words("voc20"), label_set="voc21", vocabulary="sclip")


def test_an_unknown_list_is_refused():
    with pytest.raises(ValueError, match="unknown vocabulary 'clip'; known: label_set, sclip"):
        name_classes(words("voc20"), label_set="voc20", vocabulary="clip")


@pytest.mark.parametrize("label_set", CLASSES)
@pytest.mark.laws(PRESETS)
def test_every_protocol_can_name_every_label_set(name, label_set):
    has_background = label_set in BACKGROUND
    protocol = top_down_protocol(name, label_set=label_set, has_background=has_background)
    vocabulary = name_classes(
        words(label_set),
        label_set=label_set,
        vocabulary=protocol.vocabulary,
        defects=protocol.defects,
    )
    classes = {index for _, index in used_prompts(vocabulary, protocol=protocol)}
    silent = protocol.background in ("threshold", "constant", "affinity")
    assert classes == set(range(1 if silent else 0, CLASSES[label_set]))
    assert dataclasses.replace(vocabulary, why="another").digest() == vocabulary.digest()


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
    for file in files(class_tables.__package__).joinpath("tables").iterdir():
        if file.name.endswith(".json"):
            for name, table in class_tables.read_tables(file.name.removesuffix(".json")).items():
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
