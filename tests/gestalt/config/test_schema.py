"""Every key has a meaning and allowed values, and its default is allowed."""

import dataclasses

import pytest

from gestalt.config import schema
from gestalt.config.loading import load
from gestalt.config.schema import Experiment, config_hash
from gestalt.data_modules.keys import Data, MixturePart, only_scenes
from gestalt.support.keys import Key, Reader, check_values, key, words_read_by
from gestalt.support.typed import ConfigError, fields_below
from gestalt.training.keys import Optimizer


@dataclasses.dataclass
class Sample:
    share: float = key(0.5, "A share.", above=0, at_most=1)
    pair: tuple[float, float] = key((0.1, 0.2), "Two decays.", at_least=0, below=1)
    steps: int | None = key(None, "Steps.", above=0, also=-1)
    word: str = key("one", "A word.", choices=("one", "two"))
    time: str = key("00:01", "A time.", pattern=r"\d\d:\d\d", form="hours:minutes")


BAD = [
    ("share", 0.0, "share=0.0: choose a number that is above 0 and at most 1"),
    ("share", float("nan"), "share=nan: choose a number that is above 0 and at most 1"),
    ("share", float("inf"), "share=inf: choose a number that is above 0 and at most 1"),
    (
        "steps",
        2**63,
        f"steps={2**63}: choose a number that is above 0, or -1, and at most 2^63 - 1",
    ),
    ("pair", (0.0, 1.0), "pair=[0.0, 1.0]: choose numbers that are each at least 0 and below 1"),
    ("steps", 0, "steps=0: choose a number that is above 0, or -1"),
    ("word", "on", "word=on: did you mean 'one'? choose one of one, two"),
    ("time", "1:00", "time=1:00: choose hours:minutes"),
]


def test_every_key_has_a_meaning_and_explains_null_if_allowed():
    for name, item in fields_below(Experiment):
        described = item.metadata["key"]
        assert isinstance(described, Key), name
        assert described.meaning.endswith("."), name
        assert "null" in described.meaning or type(None) not in getattr(
            item.type, "__args__", ()
        ), name


def test_a_key_is_read_by_the_readers_of_its_group_and_its_own():
    training, others = (
        words_read_by(reader, Experiment) for reader in (Reader.TRAINING, Reader.EXTERNAL)
    )
    assert {"loss.", "seed=", "trainer.max_time="} <= {*training}
    assert {"evaluation.", "data.root=", "trainer.precision="} <= {*others}
    assert not {*training} & {*others}
    for reader in (Reader.LABEL_MAPS, Reader.DEBIASING):
        assert all(word.startswith(others) for word in words_read_by(reader, Experiment))
    words = words_read_by(Reader.DEBIASING, Experiment)
    assert words == ("data.source=", "data.root=", "evaluation.unlabelled=")


def test_defaults_and_values_within_bounds_are_allowed():
    check_values(Experiment())
    for change in (
        {},
        {"share": 1.0},
        {"pair": (0.0, 0.5)},
        {"steps": -1},
        {"steps": 3},
        {"word": "two"},
    ):
        check_values(Sample(**change))
    check_values(Optimizer(learning_rate=1e30))


@pytest.mark.parametrize(
    ("name", "value", "message"), BAD, ids=[f"{name}={value}" for name, value, _ in BAD]
)
def test_a_value_out_of_bounds_is_refused_with_what_to_choose(name, value, message):
    with pytest.raises(ConfigError) as error:
        check_values(Sample(**{name: value}))
    assert str(error.value) == message


def test_an_item_of_a_list_is_checked_and_named_by_its_index():
    with pytest.raises(ConfigError, match=r"^mixture\[1\]\.limit=0: choose"):
        check_values(Data(mixture=[MixturePart("tars"), MixturePart("tars", limit=0)]))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Data("scenes"), True),
        (Data("flickr", mixture=[MixturePart("scenes")]), False),
        (Data("mixture", mixture=[MixturePart("scenes"), MixturePart("scenes", limit=3)]), True),
        (Data("mixture", mixture=[MixturePart("scenes"), MixturePart("flickr")]), False),
    ],
)
def test_a_run_of_scenes_alone_is_one_without_any_other_source(data, expected):
    assert only_scenes(data) == expected


def hash_of(*words):
    return config_hash(load("clippy_dino_max", scale="demo", overrides=[*words]))


def test_the_hash_changes_only_with_keys_that_change_a_result():
    for same in (
        "data.workers=7",
        "trainer.devices=2",
        "resume=last",
        "data.batch_size=16 trainer.accumulate_grad_batches=4",
        "optimizer.eps=1e-6",
    ):
        assert hash_of(*same.split()) == hash_of()
    assert hash_of("data.root=s3://u:p@a/x.tar?token=T/1") == hash_of("data.root=x.tar")
    for other in (
        "seed=1",
        "image.keep_tokens=0.5",
        "trainer.max_epochs=1",
        "data.batch_size=32",
        "trainer.accumulate_grad_batches=2",
    ):
        assert hash_of(other) != hash_of()
    # in 0.3.0 every optimiser had AdamW's eps, and this hash
    earlier = Experiment(optimizer=Optimizer("adafactor", eps=1e-6))
    assert config_hash(earlier) == "a4ed3c9f4481"
    assert config_hash(Experiment(optimizer=Optimizer("adafactor"))) != "a4ed3c9f4481"


def test_a_new_key_changes_a_hash_only_away_from_its_default(monkeypatch):
    config = load("clippy_dino_max", scale="demo")
    before, keys = config_hash(config), schema.hashed_keys(config)
    monkeypatch.setitem(schema.DEFAULTS, "image.new", 3)
    for value, is_same in ((3, True), (4, False)):
        monkeypatch.setattr(
            schema, "hashed_keys", lambda config, value=value: keys | {"image.new": value}
        )
        assert (config_hash(config) == before) == is_same
