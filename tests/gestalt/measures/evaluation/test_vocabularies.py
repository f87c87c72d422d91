"""Vocabularies: the field's lists are complete, and a label set is named by them or records why
not.
"""

import dataclasses

import pytest

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
