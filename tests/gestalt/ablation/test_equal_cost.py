"""Grids at equal FLOP: each cell trains for as many steps as cost the FLOP of the cell that it is
compared with.
"""

import json

import pytest
import torch
import yaml
from torch.nn import functional

from gestalt.ablation import equal_cost as counted
from gestalt.ablation.equal_cost import COUNTS, at_equal_cost
from gestalt.ablation.grid import read_grid
from gestalt.config.loading import load
from gestalt.config.schema import config_hash
from gestalt.module import ContrastiveModule
from gestalt.runs import trial
from gestalt.runs.source import pairs_a_step
from gestalt.runs.trial import (
    build_trial,
    count_training,
    counting,
    extrapolate,
    read_pairs,
    repeat,
    step_flop,
    take_steps,
)
from gestalt.support.typed import ConfigError
from tests.gestalt.command import succeed
from tests.gestalt.tiny_config import tiny_config

GRID = {
    "base": "clippy_random_max",
    "equal": "flop",
    "against": "max",
    "cells": {
        "max": {},
        "positives": {"loss.equal_texts": "positives"},
        "nouns": {"loss.terms": {"nouns": 1.0}},
        "frozen": {"text.frozen": True},
    },
}
FLOP = {"max": 10, "positives": 10, "nouns": 20, "frozen": 5}


@pytest.fixture
def grid(tmp_path):
    """Four cells at scale tiny, whose run has 16 steps."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(GRID, sort_keys=False))
    return read_grid(
        str(tmp_path / "mine.yaml"), scale="tiny", overrides=("optimizer.warmup_steps=2",)
    )


def name_of(config) -> str:
    """The cell of a configuration."""
    if config.loss.terms:
        return "nouns"
    if config.text.frozen:
        return "frozen"
    return "positives" if config.loss.equal_texts == "positives" else "max"


def count(config):
    """Made-up FLOP of a step, and the steps of every cell's own configuration."""
    return FLOP[name_of(config)], 16


def test_cells_get_the_steps_that_cost_as_much_as_the_cell_that_they_are_compared_with(
    grid, tmp_path, monkeypatch
):
    monkeypatch.setattr(counted, "step_flop", count)
    equal, lines = at_equal_cost(grid, folder=tmp_path, write=True)
    cells = equal.cells
    assert cells["max"] == {}
    # the run that it would be without equal cost
    assert cells["positives"] == {"loss.equal_texts": "positives"}
    assert cells["nouns"]["trainer.max_steps"] == 8
    assert cells["frozen"] == {
        "text.frozen": True,
        "trainer.max_steps": 32,
        "trainer.max_epochs": -1,
    }
    assert lines[2] == "nouns: 8 steps of 20 FLOP, 160 FLOP in total."
    for cell, values in cells.items():
        config = load(equal.base, scale=equal.scale, overrides=list(equal.words(cell, seed=3)))
        assert (config.trainer.max_steps, config.seed) == (
            values.get("trainer.max_steps", -1),
            3,
        )


def test_counts_are_kept_so_that_a_repeated_call_has_the_same_runs(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(counted, "step_flop", count)
    dry, _ = at_equal_cost(grid, folder=tmp_path, write=False)
    assert not (tmp_path / COUNTS).exists()
    first, _ = at_equal_cost(grid, folder=tmp_path, write=True)
    assert first == dry
    monkeypatch.setattr(counted, "step_flop", lambda config: pytest.fail("counted again"))
    again, _ = at_equal_cost(grid, folder=tmp_path, write=True)
    assert again == first
    kept = json.loads((tmp_path / COUNTS).read_text())["counts"]
    base = load(grid.base, scale=grid.scale, overrides=list(grid.words("max", seed=0)))
    assert kept[config_hash(base)] == {"flop": 10, "steps": 16}


def test_a_cell_that_cannot_be_counted_or_ends_within_its_warmup_is_refused(
    grid, tmp_path, monkeypatch
):
    def fails(config):
        if name_of(config) == "nouns":
            raise ConfigError("none of the first 8 pairs can be read")
        return count(config)

    monkeypatch.setattr(counted, "step_flop", fails)
    with pytest.raises(ConfigError, match="cell nouns: its FLOP cannot be counted: none of the"):
        at_equal_cost(grid, folder=tmp_path / "a", write=True)
    few = (
        r"grid mine: equal: flop: cell nouns: optimizer\.warmup_steps=2: the run ends after "
        r"trainer\.max_steps=1; choose no more"
    )
    monkeypatch.setattr(
        counted, "step_flop", lambda config: (160 if name_of(config) == "nouns" else 10, 16)
    )
    with pytest.raises(ConfigError, match=few):
        at_equal_cost(grid, folder=tmp_path / "b", write=True)


def unscored(*words):
    words = ["evaluation.benchmarks=[]", "data.workers=0", *words]
    return tiny_config(*words, name="clippy_random_max")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_the_flop_of_a_step_equal_those_that_the_whole_batch_costs():
    # the first step embeds the nouns once for the run
    config = unscored("text.frozen=true", "loss.terms={nouns: 1.0}")
    pairs = pairs_a_step(config)
    parts = build_trial(config)
    batch = repeat(read_pairs(parts), pairs)
    take_steps(parts, batch)
    with counting() as whole:
        take_steps(parts, batch)
    assert step_flop(config) == (whole.get_total_flops(), 8)


def test_steps_are_counted_on_meta_tensors_and_on_the_cpu_where_values_are_read(monkeypatch):
    seen = []

    def count(config, pairs, device):
        seen.append((device, pairs, config.trainer.precision, config.trainer.accelerator))
        if device == "meta":
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        return "counted"

    monkeypatch.setattr(trial, "_count", count)
    config = unscored("trainer.precision=bf16-mixed", "trainer.accelerator=auto")
    assert count_training(config, pairs=16) == "counted"
    assert seen == [(device, 16, "32-true", "cpu") for device in ("meta", "cpu")]


@pytest.mark.slow
def test_meta_tensors_give_the_count_of_real_ones_which_stand_in_where_values_are_read(monkeypatch):
    text = "text.family=open_clip text.init=random text.width=32 text.heads=2"
    words = f"{text} image.depth=1 optimizer.ema=0.9 trainer.precision=bf16-true".split()
    config = unscored(*words)
    step, devices = ContrastiveModule.training_step, []

    def reading(self, batch, index):
        loss = step(self, batch, index)
        devices.append(loss.device.type)
        loss.item()
        return loss

    counted = count_training(config, pairs=16)
    monkeypatch.setattr(ContrastiveModule, "training_step", reading)
    assert count_training(config, pairs=16) == counted
    assert devices == ["meta", *["cpu"] * 4]
    weights = sum(weight.numel() for weight in build_trial(config).module.parameters())
    assert counted.saved == pytest.approx(4 * 2 * weights, rel=0.001)


@pytest.mark.slow
def test_what_changes_no_result_changes_no_count():
    memory = (
        "trainer.accumulate_grad_batches=2",
        "data.batch_size=8",
        "image.gradient_checkpointing=true",
        "loss.chunk=4",
    )
    counts = set()
    for words in (memory, ("data.batch_size=16",)):
        config = unscored(*words)
        counts.add((config_hash(config), step_flop(config)))
    assert len(counts) == 1


@pytest.mark.slow
def test_a_grid_at_equal_flop_trains_each_cell_for_its_steps_and_reports_them(tmp_path):
    cells = {"max": {}, "nouns": {"loss.terms": {"nouns": 1.0}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**GRID, "cells": cells}))
    line = "ablate ./mine.yaml --scale tiny optimizer.warmup_steps=2"
    succeed(line, folder=tmp_path)
    folder = tmp_path / "lightning_logs" / "ablations" / "mine" / "tiny"
    counts = sorted(
        (entry["flop"], entry["steps"])
        for entry in json.loads((folder / COUNTS).read_text())["counts"].values()
    )
    assert counts[0][0] < counts[1][0]
    taken = sorted(
        json.loads(path.read_text())["steps"]
        for path in tmp_path.glob("lightning_logs/clippy_random_max/tiny/*/result.json")
    )
    assert taken == [round(counts[0][0] * counts[0][1] / counts[1][0]), counts[0][1]]
    page = (folder / "table.md").read_text()
    assert f"nouns: {taken[0]:,} steps of " in page
    again = succeed(f"{line} --dry-run", folder=tmp_path)
    assert "0 of 2 runs to come; nothing to do" in again.stdout


def test_products_and_attention_count_with_their_gradients():
    weight, given = (torch.randn(size, requires_grad=True) for size in ((6, 5), (2, 6)))
    query, key, value = (torch.randn(2, 3, 7, 4, requires_grad=True) for _ in range(3))
    with counting() as products:
        (given @ weight).sum().backward()
    with counting() as attention:
        functional.scaled_dot_product_attention(query, key, value).sum().backward()
    assert products.get_total_flops() == 3 * 2 * (2 * 6 * 5)
    assert attention.get_total_flops() == 6 * 2 * (2 * 3 * 7 * 7 * 4)


def test_three_counts_give_the_flop_of_any_batch():
    def flop(pairs: int) -> int:
        return 41 * 10**9 + 7 * 10**8 * pairs + 3 * 512 * pairs**2

    counts = {pairs: flop(pairs) for pairs in (2, 4, 6)}
    assert [extrapolate(counts, pairs=pairs) for pairs in (1, 4, 64, 32_768)] == [
        flop(pairs) for pairs in (1, 4, 64, 32_768)
    ]
