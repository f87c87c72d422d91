"""The linter of vocabularies finds planted defects and the known defects of the field's lists."""

import re

import pytest
import torch
from torch import Tensor

from data_modules.image_sets import open_image_set
from data_modules.labels.all_label_sets import all_label_sets
from data_modules.scenes.recipes import RECIPES
from gestalt.__main__ import main
from gestalt.commands import vocabulary
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.protocols import build_protocol
from gestalt.evaluation.vocabularies import Vocabulary
from gestalt.evaluation.vocabularies.linter import known_findings, lint, near_ties, table


def test_the_linter_finds_every_kind_of_defect_and_nothing_else() -> None:
    found = lint((("wall", "bed"), ("bed",), ("cat ", "dog"), ("TV",), ("two  blanks",), ("sea", "sea"), ("car",)))
    assert [(one.kind, one.classes) for one in found] == [
        ("duplicate", (0, 1)),
        ("repeated", (5,)),
        ("white space", (2,)),
        ("upper case", (3,)),
        ("white space", (4,)),
    ]
    assert "'cat '" in table([("here", found[2])])
    assert lint((("wall",), ("cat",))) == []
    assert table([]) == "nothing found"


class Pairs:
    """Gives two phrases vectors that nearly agree."""

    def embed_text(self, texts: list[str], *, normalise: bool = True) -> Tensor:
        rows = {"sofa": [1.0, 0.0, 0.0], "couch": [1.0, 0.05, 0.0], "cat": [0.0, 0.0, 1.0]}
        return torch.tensor([next(row for word, row in rows.items() if text.endswith(word)) for text in texts])


def test_phrases_of_two_classes_with_nearly_equal_embeddings_are_near_ties() -> None:
    words = Vocabulary(("other", "sofa", "couch", "cat"), prompts=((), ("sofa",), ("couch",), ("cat",)), background=0)
    protocol = build_protocol("whole_square", background="threshold", threshold=0.1)
    (found,) = near_ties(Pairs(), words, protocol=protocol, cosine=0.98)
    assert (found.classes, found.phrases) == ((1, 2), ("sofa", "couch"))
    assert near_ties(Pairs(), words, protocol=protocol, cosine=0.9999) == []


def test_the_command_prints_the_known_defects_of_the_fields_lists_and_of_the_sets_with_their_reasons(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["vocabulary"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["sclip/context60", "white"],
        ["sclip/coco_object_81", "duplicate"],
        ["proxyclip/coco_object_81", "duplicate"],
        ["tcl/ade20k_150", "white"],
        ["label_set/imagenet_1000", "duplicate"],
        ["label_set/imagenet_1000", "duplicate"],
        ["label_set/imagenet_1000", "upper"],
    ]
    assert all("  known: " in line for line in lines[1:])
    assert [re.search(r"\d+, \d+  +\w+", line).group().split() for line in lines[5:7]] == [  # type: ignore[union-attr]
        ["657,", "744", "missile"],
        ["836,", "837", "sunglasses"],
    ]
    assert len(lines) == 1 + sum(map(len, known_findings().values()))  # each is still there


def test_a_list_that_reuses_another_lists_phrases_has_the_same_known_defects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocabulary", "--list", "naclip", "--label-set", "coco_object_81"]) == 0
    assert "naclip/coco_object_81  duplicate  0, 60    bed" in capsys.readouterr().out


def test_an_unknown_defect_fails_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "own_phrases", lambda: {"imagenet_1000": (("missile",), ("missile",), ("tench",), ("tench",))})
    assert main(["vocabulary", "--list", "label_set"]) == 1
    said = capsys.readouterr()
    mend = "correct the phrases, or say in evaluation/vocabularies/known.json why they stay"
    assert f"gestalt: findings that are not known: 1; {mend}" in said.err
    assert [line.split()[1:4] for line in said.out.splitlines()[1:]] == [["duplicate", "2,", "3"], ["duplicate", "0,", "1"]]


def test_the_phrases_of_every_benchmark_label_set_are_linted() -> None:
    own = all_label_sets()
    scenes = {"scenes", "scenes_classes"}  # of a recipe, whose names scenes of one object share
    assert {row.label_set for row in BENCHMARKS.values() if row.label_set} - scenes == {
        name for name in own if not name.startswith("scenes of ")
    }
    for recipe in RECIPES:
        opened = [
            open_image_set(name, root=None, split=None, limit=1, subset=True, recipe=recipe).label_sets
            for name in ("scenes", "scenes_classification")
        ]
        assert opened[0]["scenes"] == own[f"scenes of {recipe}"]
        assert opened[1]["scenes_classes"].names == own[f"scenes of {recipe}"].names[1:]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--list", "sclp"], "unknown vocabulary 'sclp'"), (["--label-set", "voc"], "no list names label set 'voc'")],
)
def test_an_unknown_list_or_label_set_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocabulary", *words]) == 2
    assert message in capsys.readouterr().err
