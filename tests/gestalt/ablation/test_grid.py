"""A grid file defines the varied keys; an invalid one is refused in one line before anything
runs.
"""

from pathlib import Path

import pytest
import yaml

from gestalt.ablation.grid import read_choices, read_grid, word
from gestalt.config.folders import EXPERIMENTS
from gestalt.config.loading import load
from gestalt.support.typed import ConfigError, read_values
from tests.gestalt.tiny_config import tiny_config

GRIDS = sorted(path.stem for path in (EXPERIMENTS / "ablations").glob("*.yaml"))
BASE = {"base": "clippy_dino_max"}
VARY = {"vary": {"image.aggregation": ["max", "avg"]}}
PAPER = {
    "source": "a paper, table 1",
    "scale": "large",
    "metrics": {"miou": "mIoU, %"},
    "cells": {"max": {"miou": 50}},
}


def read(folder: Path, content):
    """Read ``content``, a mapping or text, as the grid ``mine`` of a folder."""
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (folder / "mine.yaml").write_text(text)
    return read_grid(str(folder / "mine.yaml"), scale="tiny")


@pytest.mark.parametrize("name", GRIDS)
def test_every_shipped_grid_loads_in_every_cell_and_states_its_source_and_command(name):
    for scale in ("tiny", "demo"):
        grid = read_grid(name, scale=scale)
        assert len(grid.cells) >= 2
        assert grid.metric == "scenes/miou"
        assert grid.against in grid.cells
    lines = (EXPERIMENTS / "ablations" / f"{name}.yaml").read_text().splitlines()
    assert "Source: " in lines[0]
    default = "make ablate [" if name == "aggregation_by_init" else f"make ablate GRID={name} "
    assert lines[1].startswith(f"# Run:     {default}")


def test_vary_makes_every_combination_in_order():
    grid = read_grid("aggregation_by_init", scale="tiny")
    assert list(grid.cells)[:4] == [
        "cls, random",
        "cls, supervised",
        "cls, dino",
        "avg, random",
    ]
    assert len(grid.cells) == 9
    assert grid.words("cls, random", seed=2) == (
        "image.aggregation=cls",
        "image.init=random",
        "seed=2",
    )


def test_the_base_is_the_cell_that_changes_nothing():
    assert read_grid("frozen_towers", scale="tiny").against == "max, none frozen"
    assert read_grid("aggregation_by_init", scale="tiny").against == "max, dino"


def test_without_such_a_cell_the_first_is_the_base_unless_the_file_names_one(tmp_path):
    rates = {"vary": {"optimizer.learning_rate": [0.01, 0.02]}}
    assert read(tmp_path, {**BASE, **rates}).against == "learning_rate=0.01"
    assert (
        read(tmp_path, {**BASE, **rates, "against": "learning_rate=0.02"}).against
        == "learning_rate=0.02"
    )


@pytest.mark.parametrize("terms", ["loss.terms: {}", "loss: {terms: {}}"])
def test_a_cell_can_clear_a_mapping_of_the_base(tmp_path, terms):
    grid = read(
        tmp_path,
        f"base: gestalt\ncells: {{nouns: {{}}, pairs: {{{terms}, image.aggregation: avg}}}}\n",
    )
    words = grid.words("pairs", seed=0)
    assert "loss.terms={}" in words
    assert tiny_config(*words, name="gestalt").loss.terms == {}


def test_a_scale_can_set_overrides_and_test_sizes_of_a_grid():
    grid = read_grid("token_subsampling", scale="demo", overrides=("trainer.max_steps=500",))
    assert grid.common == (
        "image.train_size=128",
        "image.keep_tokens=0.2",
        "image.eval_size=64",
        "trainer.max_steps=500",
    )
    assert grid.evaluate_at == [48, 64, 96, 128, 160]
    image = load(grid.base, scale="demo", overrides=list(grid.common)).image
    assert image.train_size == 2 * image.eval_size


@pytest.mark.parametrize(
    "value",
    [
        "max",
        "1e-3",
        "yes",
        "a b",
        "null",
        0.5,
        3,
        True,
        None,
        ["scenes", "flickr"],
        "package:name",
        "a/b.c",
    ],
)
def test_a_value_survives_formatting_and_parsing_as_an_override(value):
    assert read_values(word("key", value).removeprefix("key=")) == value


def test_each_choice_of_the_command_line_has_its_values():
    words = ["optimizer.warmup_steps=0,5", "image.aggregation=max"]
    chosen = {"optimizer.warmup_steps": [0, 5], "image.aggregation": ["max"]}
    assert [*read_choices(words).items()] == [*chosen.items()]


BAD = {
    "an unknown key": (
        {**BASE, **VARY, "varry": 1},
        "has no key 'varry' (in mine.yaml); did you mean 'vary'",
    ),
    "a wrong type": ({**BASE, **VARY, "equal": "time"}, "equal=time: choose one of flop"),
    "a cell that cannot load": (
        {**BASE, "cells": {"a": {}, "b": {"image.agregation": "max"}}},
        "cell b: image.agregation: image has no key",
    ),
    "a value twice": (
        {**BASE, "vary": {"image.aggregation": ["max", "max"]}},
        "list different values",
    ),
    "one run twice": (
        {**BASE, "cells": {"a": {}, "b": {"image.aggregation": "max"}}},
        "cells a and b are the same run",
    ),
    "a base that is no cell": (
        {**BASE, **VARY, "against": "maxx"},
        "against: 'maxx' is not a cell; did you mean 'max'",
    ),
    "an unknown scale": (
        {**BASE, **VARY, "scales": {"dem": {}}},
        "scale dem: no scales/dem.yaml; did you mean 'demo'",
    ),
    "absurdly many cells": (
        {**BASE, "vary": {key: [*range(1000)] for key in ("seed", "image.width", "image.depth")}},
        "1,000,000,000 runs, at most 10,000",
    ),
    "a test size": ({**BASE, **VARY, "evaluate_at": [48, -1]}, "evaluate_at: image.eval_size=-1"),
    "a choice that cannot load": (
        {**BASE, **VARY, "choose": {"optimizer.learning_rate": [0.1, -1]}},
        "cell max: optimizer.learning_rate=-1",
    ),
    "a length at equal cost": (
        {**BASE, "equal": "flop", "cells": {"a": {}, "b": {"trainer.max_epochs": 2}}},
        "trainer.max_epochs: equal: flop sets the steps of each cell",
    ),
    "a paper's cell": (
        {**BASE, **VARY, "paper": {**PAPER, "cells": {"maxx": {}}}},
        "paper: 'maxx' is not a cell; did you mean 'max'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, name):
    content, message = BAD[name]
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, content)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value).strip()


WORDS = {
    "the seed": (("seed=3",), {}, "seed=3: the grid sets it; choose --seeds"),
    "what varies": (("image.aggregation=cls",), {}, "image.aggregation is varied by the cells"),
    "half a choice": (
        (),
        {"choose": ("optimizer.learning_rate",)},
        "--choose optimizer.learning_rate: expected KEY=a,b,c",
    ),
}


@pytest.mark.parametrize(("overrides", "more", "message"), WORDS.values(), ids=WORDS)
def test_an_invalid_command_line_override_of_a_grid_is_refused(overrides, more, message):
    with pytest.raises(ConfigError) as refusal:
        read_grid("aggregation", scale="tiny", overrides=overrides, **more)
    assert message in str(refusal.value)
