"""train --plan: a line for each station of a run, whatever of it is there; nothing is written."""

import weakref
from types import SimpleNamespace

import pytest
import torch

from gestalt.commands import plan as command
from gestalt.commands.plan import Stations
from gestalt.support.typed import ConfigError, NotThere
from tests.data_modules.tar_files import write_shards
from tests.gestalt.command import run_here
from tests.gestalt.tiny_config import tiny_config

PLAN = "train clippy_random_max --scale tiny --plan"
STATIONS = [
    *("index", "captions", "weights", "batch", "memory", "step", "loading", "shm"),
    *("validation", "checkpoint", "disk", "hours"),
]
GB = 10**9
KEEPING = tiny_config("trainer.max_epochs=32", "data.limit=null", "checkpoint_keep=160")
"""It keeps two checkpoints in its 320 steps."""


def stations(*words, **given):
    """Those of a run of 32 epochs with a batch of 16, after some measurements."""
    run = Stations.__new__(Stations)
    usual = {
        "config": tiny_config("trainer.max_epochs=32", "data.limit=null", *words),
        "local": 1,
        "ranks": 1,
        "share": 16,
        "elsewhere": False,
        "device": torch.device("cuda"),
        "unopened": None,
        "facts": {"shards": 1},
        "there": 160,
        "saved": GB,
        "workers": 4,
        "flop": 10**12,
        "starting": 4.0,
        "seconds": 0.5,
        "scoring": 2.0,
        "pairs": {"text": ["", ""]},
        "trial": None,
    }
    run.__dict__.update(usual | given)
    return run


@pytest.mark.parametrize(
    ("station", "given", "kind", "text"),
    [
        ("disk", {}, None, "3 GB of the 4 GB that are free"),
        ("disk", {"config": KEEPING}, ConfigError, "5 GB of the 4 GB that are free"),
        ("disk", {"saved": 2 * GB}, ConfigError, "free some space, or start the run in another"),
        ("hours", {}, None, "3 min 48 s to the end: 4 s of start-up, 320 steps of 160 pairs an e"),
        ("hours", {}, None, "and 32 validations, the last one included; the writing"),
        ("hours", {"there": 15}, NotThere, "number of steps"),
        ("hours", {"seconds": 0.0}, None, "A100 6.8 s to 4.1 s, H100 2.2 s to 1.3 s, estimated"),
        ("hours", {"seconds": 31.0}, ConfigError, "trainer.max_time=00:02:00:00 ends it before"),
        ("batch", {"there": 15}, NotThere, "a run needs them, and 15 can be read"),
        ("loading", {}, None, "256 pairs/s a process, 0 of 64 cannot be read; 1 processes a d"),
        ("loading", {"seconds": 0.01, "workers": 7}, ConfigError, "choose 8, of 6 cores a device"),
        ("loading", {"unopened": ValueError()}, NotThere, "once image-text pairs are there"),
    ],
)  # fmt: skip
def test_a_station_says_what_is_there_what_is_missing_and_what_to_mend(
    station, given, kind, text, monkeypatch
):
    clock = iter([0.0, 0.25])  # 64 pairs
    monkeypatch.setattr(command.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(command, "read_pairs", lambda trial, first: {"text": [""] * 64})
    monkeypatch.setattr(command, "cpu_count", lambda: 6)
    monkeypatch.setattr(command, "free_bytes", lambda folder: 4 * GB)
    run = stations("trainer.max_time=00:02:00:00", **given)
    if kind is None:
        assert text in getattr(run, station)()
    else:
        with pytest.raises(kind, match=text):
            getattr(run, station)()


def test_a_plan_has_one_model_at_a_time_in_memory(monkeypatch):
    class Tower:
        pass

    living, tried = weakref.WeakSet(), []

    def count(config, pairs):
        tower = Tower()
        living.add(tower)
        assert len(living) == 1
        tried.append(config)
        if len(tried) == 1:
            raise NotThere("no weights")
        return pairs, GB

    def build(config):
        assert config is tried[1]
        assert not living
        return SimpleNamespace(data=SimpleNamespace(about=lambda: {"samples": 3}))

    monkeypatch.setattr(command, "count_training", count)
    monkeypatch.setattr(command, "build_trial", build)
    monkeypatch.setattr(command, "read_pairs", lambda trial: {})
    run = Stations(tiny_config("trainer.accumulate_grad_batches=2"))
    assert (run.flop, run.saved, run.there) == (32, GB, 3)


def test_every_public_method_is_a_station():
    names = [station.__name__ for station in stations().stations()]
    public = [name for name in vars(Stations) if not name.startswith("_")]
    assert sorted(["stations", *names]) == sorted(public)


def test_a_plan_prints_no_secret_of_an_address(monkeypatch, capsys):
    class Fake(Stations):
        def __init__(self, config):
            vars(self).update(config=config, ranks=1, device=torch.device("cpu"))

        def stations(self):
            return [self.index]

        def index(self):
            raise NotThere("https://host/x.tar?token=To ken: HTTP 403")

    monkeypatch.setattr(command, "Stations", Fake)
    assert command.plan(tiny_config()) == 0
    assert capsys.readouterr().out.endswith("not there yet  index: https://host/x.tar: HTTP 403\n")


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], {"facts": {"shards": 2, "missing_shards": {"count": 2174}}, "there": 10_082}),
        (
            ["data.source=tars", "data.root=none/{0000..2175}.tar"],
            {"unopened": NotThere("no tar"), "there": 0},
        ),
    ],
)
def test_the_hours_of_the_papers_run_are_estimated_from_two_of_its_tars_or_their_names(
    words, given
):
    run = stations(
        "data.batch_size=8192",
        *words,
        **given,
        seconds=0.0,
        ranks=8,
        flop=125 * 10**9 * 8192,
    )
    text = run.hours()
    assert text.startswith("42,848 steps of 10,969,216 pairs an epoch")
    assert "; A100 32 h 33 min to 19 h 31 min, H100 10 h" in text
    assert ("if each tar has the 5,041 of CC12M's" in text) == bool(words)


@pytest.fixture
def untaken(monkeypatch):
    """No step is taken; a batch is its number of pairs."""
    monkeypatch.setattr(command, "take_steps", lambda trial, size: None)
    monkeypatch.setattr(command, "repeat", lambda pairs, count: count)


@pytest.mark.usefixtures("untaken")
@pytest.mark.parametrize(("fits", "taken"), [(16, [16]), (5, [16, 8, 4]), (0, [16, 8, 4, 2, 1])])
def test_a_batch_that_does_not_fit_is_halved_and_one_that_does_is_named(fits, taken, monkeypatch):
    tried = []

    def step(trial, size):
        tried.append(size)
        if size > fits:
            raise torch.OutOfMemoryError
        return 1.0

    monkeypatch.setattr(command, "time_step", step)
    monkeypatch.setattr(command, "peak_memory", lambda device: GB if tried else 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (GB, GB))
    run = stations(seconds=0.0)
    if fits == 16:
        assert run.memory() == "1 GB of 1 GB for 16 pairs a device"
    else:
        with pytest.raises(ConfigError, match=f"choose data.batch_size={taken[-1]}, a smaller"):
            run.memory()
    assert tried == taken


@pytest.mark.usefixtures("untaken")
def test_a_cpu_takes_few_pairs_and_the_memory_of_all_is_estimated(monkeypatch):
    monkeypatch.setattr(command, "time_step", lambda trial, batch: 1.0)
    peaks = iter([GB, 2 * GB])
    monkeypatch.setattr(command, "peak_memory", lambda device: next(peaks))
    monkeypatch.setattr(command, "free_memory", lambda: 2 * GB)
    run = stations(seconds=0.0, share=256, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"5 GB of 3 GB for 256 .*choose data.batch_size=128,"):
        run.memory()
    assert run.seconds == 4.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "states", "status"),
    [
        ("data.batch_size=4 trainer.accumulate_grad_batches=2 optimizer.ema=0.9", {}, 0),
        (
            "data.source=tars data.root={root}/s-{{0000..0009}}.tar data.batch_size=64 "
            "image.init=dino image.weights=none.pt text.model=./none trainer.accelerator=auto "
            "evaluation.benchmarks=[pascal_voc] trainer.devices=8 trainer.num_nodes=4",
            dict.fromkeys(["index", "weights", "batch", "validation"], "not there yet"),
            0,
        ),
        (
            "data.source=tars trainer.devices=3 trainer.num_nodes=4 trainer.accelerator=gpu",
            dict.fromkeys(["index", "captions", "loading", "hours"], "not there yet")
            | {"batch": "fix"},
            1,
        ),
    ],
)
def test_a_plan_has_a_line_for_each_station_and_writes_nothing(
    words, states, status, tmp_path, monkeypatch, capsys
):
    root = write_shards(tmp_path / "tars", [20, 20])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run_here(f"{PLAN} {words.format(root=root)}", status=status)
    rows = [
        row.partition(": ")[0].rsplit(maxsplit=1) for row in capsys.readouterr().out.splitlines()
    ]
    found = {name: state for state, name in rows[1:]}
    assert list(found) == STATIONS
    assert found == dict.fromkeys(STATIONS, "ok") | states
    assert list((tmp_path / "here").iterdir()) == []
