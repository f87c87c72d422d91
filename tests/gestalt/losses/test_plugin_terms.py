"""The worked example of a package that adds terms: its entry points, and its negative captions,
with one noun replaced.

The laws of its terms are in ``test_terms.py``.
"""

from functools import partial

import pytest
import torch

from gestalt.config.identity import config_hash
from gestalt.losses.noun_list import NounList
from gestalt.models.start import build_model
from gestalt.runs.training import build_module
from gestalt.support.plugins import added_to
from gestalt.tables import TERMS
from tests.gestalt.losses.toy import EXAMPLE, HARD_NEGATIVES, POINTS
from tests.gestalt.tiny_config import tiny_config

plural, replace_noun = HARD_NEGATIVES.plural, HARD_NEGATIVES.replace_noun
negative = partial(HARD_NEGATIVES.negative_of, seed=0, sample_id=0)
NOUNS = NounList(["apple", "bus", "dog", "man", "shorts", "umbrella", "unicycle"])


@pytest.mark.parametrize(
    ("caption", "old", "new", "expected"),
    [
        ("A dog, two dogs and a Dog.", "dog", "man", "A man, two men and a Man."),
        ("DOGS run", "dog", "bus", "BUSES run"),
        ("dogged dog-sled  of a dog", "dog", "man", "dogged dog-sled  of a man"),
        ("A dog and a big dog", "dog", "apple", "An apple and a big apple"),
        ("an\tapple", "apple", "unicycle", "a\tunicycle"),
        ("An apple", "apple", "umbrella", "An umbrella"),
        ("caf\u00e9 dog \u0130 dog", "dog", "bus", "caf\u00e9 bus \u0130 bus"),
        ("a man in shorts", "shorts", "dog", "a man in dog"),
        ("men in shorts", "man", "shorts", "shorts in shorts"),
    ],
)
def test_every_occurrence_of_a_noun_is_replaced_and_nothing_else(caption, old, new, expected):
    assert replace_noun(caption, old, new, known=NOUNS.nouns) == expected


CAPTIONS = [
    "A dog and a man on a bus",
    "two buses",
    "Men in shorts with an umbrella",
    "apples",
    "a DOG \u0130 dogs",
]


def test_a_negative_replaces_one_noun_by_one_that_the_caption_does_not_name():
    pairs = set()
    for number in range(400):
        caption = CAPTIONS[number % len(CAPTIONS)]
        text = negative(caption, NOUNS, epoch=number)
        assert text is not None
        before, after = set(NOUNS.find(caption)), set(NOUNS.find(text))
        assert len(before - after) == len(after - before) == 1
        assert len(before) == len(after)
        pairs.add((*(before - after), *(after - before)))
    assert {("bus", "apple"), ("bus", "dog"), ("apple", "umbrella")} <= pairs


def test_a_noun_is_never_replaced_by_one_alike():
    similar = torch.eye(len(NOUNS.nouns), dtype=torch.bool)
    bus, unicycle = (NOUNS.nouns.index(noun) for noun in ("bus", "unicycle"))
    similar[bus, unicycle] = similar[unicycle, bus] = True
    nouns = NounList(NOUNS.nouns, similar=similar)
    drawn = [negative("two buses and a dog", nouns, epoch=epoch) for epoch in range(200)]
    assert {noun for text in drawn if text for noun in nouns.find(text)} == set(NOUNS.nouns) - {
        "unicycle"
    }
    near = NounList(["cat", "kitten"], similar=torch.ones(2, 2, dtype=torch.bool))
    assert negative("a cat", near, epoch=0) is None


def test_the_draw_depends_on_seed_epoch_and_sample_alone():
    def drawn(**changed: int) -> list[str | None]:
        keys = [
            {"seed": 1, "epoch": epoch, "sample_id": number, **changed}
            for epoch in range(4)
            for number in range(4)
        ]
        return [negative(CAPTIONS[0], NOUNS, **key) for key in keys]

    assert drawn() == drawn()
    assert (
        len(
            {
                tuple(drawn(**changed))
                for changed in ({}, {"seed": 2}, {"epoch": 2}, {"sample_id": 2})
            }
        )
        == 4
    )


def test_captions_without_a_noun_or_with_all_of_them_have_no_negative():
    assert negative("somebody walks", NOUNS, epoch=0) is None
    assert negative("", NOUNS, epoch=0) is None
    assert negative("dogs and a cat", NounList(["cat", "dog"]), epoch=0) is None
    # of which the second is never named, and a negative is never the caption
    nouns = NounList(["glass", "glasses"])
    assert negative("two glasses", nouns, epoch=0) is None
    assert negative("a glass", nouns, epoch=0) == "a glasses"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example as pip installs it: its entry points on the path."""
    record = tmp_path / "more_terms-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: more-terms\nVersion: 1.0\nSummary: Two more terms\n"
    )
    (record / "entry_points.txt").write_text(
        "[gestalt.terms]\n" + "".join(f"{name} = {value}\n" for name, value in POINTS.items())
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    added_to.cache_clear()
    yield
    added_to.cache_clear()


@pytest.mark.usefixtures("installed")
def test_an_installed_package_adds_its_terms_to_a_run():
    assert {row.name for row in TERMS.rows() if row.package == "more-terms 1.0"} == set(POINTS)
    config = tiny_config(
        "loss.terms.text_conditioned=0.5", name=str(EXAMPLE / "hard_negatives.yaml")
    )
    assert config_hash(config) != config_hash(
        tiny_config(name=str(EXAMPLE / "hard_negatives.yaml"))
    )
    model = build_model(config)
    terms = build_module(
        config, model, total_steps=10, nouns=NounList(["cat", "dog", "house"])
    ).terms
    assert {name: type(term).__name__ for name, term in terms.items()} == {
        "hard_negatives": "HardNegatives",
        "text_conditioned": "TextConditioned",
    }
