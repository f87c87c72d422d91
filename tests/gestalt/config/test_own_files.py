"""Experiments, scales and grids of a user's own: a word with a slash or .yaml is a path, and runs
are filed under the file's stem.
"""

from pathlib import Path

import pytest

from gestalt.ablation.grid import read_grid
from gestalt.ablation.jobs import State, Training
from gestalt.config.folders import EXPERIMENTS
from gestalt.config.loading import load
from gestalt.config.schema import config_hash
from gestalt.support.typed import ConfigError
from tests.gestalt.ablation.fake_run import leave, record


@pytest.fixture(autouse=True)
def folder(cwd: Path) -> Path:
    """The working directory, with an experiment, a scale and a grid."""
    (cwd / "mine.yaml").write_text("image: {aggregation: avg}\n")
    (cwd / "small.yaml").write_text((EXPERIMENTS / "scales/tiny.yaml").read_text())
    (cwd / "grids").mkdir()
    (cwd / "grids/rates.yaml").write_text(
        "base: ../mine.yaml\nvary: {optimizer.learning_rate: [0.001, 0.002]}\nscales: {small: "
        "{data.limit: 64}}\n"
    )
    return cwd


def test_an_experiment_and_a_scale_may_be_paths(folder):
    (folder / "also.yml").write_text((folder / "mine.yaml").read_text())
    for name, stem in (
        ("./mine.yaml", "mine"),
        ("mine.yaml", "mine"),
        (f"{folder}/mine.yaml", "mine"),
        ("also.yml", "also"),
    ):
        config = load(name, scale="./small.yaml")
        assert (config.name, config.scale, config.image.aggregation) == (stem, "small", "avg")


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        (
            "./no.yaml",
            "tiny",
            r"experiment \./no\.yaml: .*/no\.yaml: not found; give .* YAML file, or choose one of ",
        ),
        ("clip_baseline", "./no", r"--scale \./no: .*not found; .*tiny"),
        (
            "mine",
            "tiny",
            r"experiment mine: .*for your own file write \./mine\.yaml; choose one of cl",
        ),
        ("./empty.yaml", "tiny", r"empty\.yaml: sets no key; write those that differ"),
        ("./...yaml", "tiny", r"experiment \./\.\.\.yaml: .* cannot be called '\.\.'; rename"),
        ("./zoo.yaml", "tiny", r"lightning_logs/zoo; rename the file, such as my_zoo.yaml"),
    ],
)
def test_a_word_that_names_no_usable_file_is_refused_in_one_line(folder, name, scale, message):
    (folder / "empty.yaml").write_text("# nothing yet\n")
    (folder / "...yaml").write_text("image: {aggregation: avg}\n")
    (folder / "zoo.yaml").write_text("image: {aggregation: avg}\n")
    with pytest.raises(ConfigError, match=message) as error:
        load(name, scale=scale)
    assert "\n" not in str(error.value)


def test_a_user_file_named_like_a_shipped_experiment_has_a_different_hash(folder):
    (folder / "clip_baseline.yaml").write_text("image: {aggregation: max}\n")
    shipped, own = (load(name, scale="tiny") for name in ("clip_baseline", "./clip_baseline.yaml"))
    assert own.name == shipped.name
    assert config_hash(own) != config_hash(shipped)


def test_a_grid_may_be_a_path_and_its_base_is_relative_to_it(folder):
    grid = read_grid("grids/rates.yaml", scale="./small.yaml")
    assert (grid.name, grid.base_name, grid.scale_name) == ("rates", "mine", "small")
    assert grid.common == ("data.limit=64",)
    run = Training(grid, next(iter(grid.cells)), seed=0)
    assert run.command(State("new"))[:4] == [
        "train",
        str(folder / "mine.yaml"),
        "--scale",
        str(folder / "small.yaml"),
    ]
    done = Path("lightning_logs/mine/small/version_0")
    done.mkdir(parents=True)
    config = load(run.grid.base, scale=run.grid.scale, overrides=list(run.words))
    leave(done, config, *record(config, 0.5))
    assert run.read_state().kind == "finished"


def test_a_user_grid_named_like_a_shipped_grid_is_refused(folder):
    (folder / "grids/rates.yaml").rename(folder / "grids/aggregation.yaml")
    with pytest.raises(
        ConfigError,
        match=(
            r"the shipped grid aggregation is in the same folder; rename the file, such as "
            r"my_aggregation"
        ),
    ):
        read_grid("grids/aggregation.yaml", scale="tiny")
    assert (
        read_grid(str(EXPERIMENTS / "ablations/aggregation.yaml"), scale="tiny").name
        == "aggregation"
    )
