"""The linter of vocabularies finds what was planted, and what the field's lists are known for."""

import pytest
import torch
from torch import Tensor

from gestalt.__main__ import main
from gestalt.evaluation.protocols import build_protocol
from gestalt.evaluation.vocabularies import Vocabulary
from gestalt.evaluation.vocabularies.linter import lint, near_ties, table


def test_every_kind_of_slip_is_found_and_nothing_else() -> None:
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


def test_phrases_of_two_classes_that_the_text_tower_takes_for_one_are_near_ties() -> None:
    words = Vocabulary(("other", "sofa", "couch", "cat"), prompts=((), ("sofa",), ("couch",), ("cat",)), background=0)
    protocol = build_protocol("whole_square", background="threshold", threshold=0.1)
    (found,) = near_ties(Pairs(), words, protocol=protocol, cosine=0.98)
    assert (found.classes, found.phrases) == ((1, 2), ("sofa", "couch"))
    assert near_ties(Pairs(), words, protocol=protocol, cosine=0.9999) == []


def test_the_command_prints_the_known_defects_of_the_fields_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocabulary"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["sclip/context60", "white"],
        ["sclip/coco_object_81", "duplicate"],
        ["proxyclip/coco_object_81", "duplicate"],
        ["tcl/ade20k_150", "white"],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--list", "sclp"], "unknown vocabulary 'sclp'"), (["--label-set", "voc"], "no list names label set 'voc'")],
)
def test_what_is_not_there_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocabulary", *words]) == 2
    assert message in capsys.readouterr().err
