"""Every key of the configuration is read by something: an unread key would be an option without
effect.

A read counts where a file of gestalt outside ``config/`` asks the object for the field.  Merging,
checking, saving and hashing the whole lie there and do not count; copies by ``dataclasses.replace``
do not either.  A group that is passed on whole, as ``Trainer(**asdict(config.trainer))`` does,
counts as read in all its fields: the keyword's owner refuses what it does not know.  The whole
experiment never counts so: nobody reads everything.
"""

import dataclasses
import sys
from pathlib import Path
from types import FrameType

import pytest

import gestalt
from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.measures.segmentation.configured import CHANGES
from tests.gestalt.command import run_here

ROOM = Path(gestalt.__file__).parent
OWN = "config"
GROUPS = [
    field.name for field in dataclasses.fields(Experiment) if dataclasses.is_dataclass(field.type)
]
OPEN_CLIP = (
    "text.family=open_clip",
    "text.init=random",
    "text.layers=1",
    "text.width=32",
    "text.heads=2",
)
BRANCHES = [  # each takes a way that the other does not
    [
        "evaluation.benchmarks=[scenes,scenes_matching,scenes_classification,scenes_waterbirds]",
        "evaluation.background=threshold",
        "evaluation.threshold=0.2",
        "checkpoint_every_steps=3",
        "checkpoint_keep=4",
        "optimizer.ema=0.9",
    ],
    ["evaluation.debias=largest", "loss.terms={nouns: 1.0, self_distillation: 1.0}"],
    [
        *OPEN_CLIP,
        "evaluation.benchmarks=[pascal_voc]",
        "benchmark_root=VOC",
        "image.subsampling=false",
    ],
]


def reader(frame: FrameType | None, owner: object) -> str:
    """The file that asks ``owner`` for a field, "" where dataclasses.py asks for another purpose
    than asdict of that very object.
    """
    whole = False  # a group that is passed on
    while frame is not None and frame.f_code.co_filename == dataclasses.__file__:
        whole = whole or (
            frame.f_code.co_name == "asdict"
            and frame.f_locals["obj"] is owner
            and not isinstance(owner, Experiment)
        )
        frame = frame.f_back
        if frame is not None and frame.f_code.co_filename != dataclasses.__file__:
            return frame.f_code.co_filename if whole else ""
    return frame.f_code.co_filename if frame is not None else ""


@pytest.fixture
def reads(monkeypatch):
    """(class, field) of every read that counts, while the test runs."""
    found: set[tuple[str, str]] = set()

    def record(self: object, name: str) -> object:
        if not name.startswith("__"):
            frame = sys._getframe(1)
            while Path(frame.f_code.co_filename).name == "keys.py":
                frame = frame.f_back  # a method counts for those who call it
            file = Path(reader(frame, self))
            if ROOM in file.parents and file.parent.name != OWN:
                # a recipe of pretraining extends the keys
                found.update((kind.__name__, name) for kind in type(self).__mro__)
        return object.__getattribute__(self, name)

    for group in (
        Experiment,
        *(field.type for field in dataclasses.fields(Experiment) if field.name in GROUPS),
    ):
        monkeypatch.setattr(group, "__getattribute__", record, raising=False)
    return found


def unread(config: Experiment, found: set[tuple[str, str]]) -> set[str]:
    """Keys of ``config``, flat, that nobody asked for."""
    keys = {
        field.name: (type(config).__name__, field.name)
        for field in dataclasses.fields(config)
        if field.name not in GROUPS
    }
    for group in GROUPS:
        part = getattr(config, group)
        keys |= {
            f"{group}.{field.name}": (type(part).__name__, field.name)
            for field in dataclasses.fields(part)
        }
    handed_on = {("Evaluation", key) for key in CHANGES}  # to the measure of segmentation
    return {key for key, pair in keys.items() if pair not in found | handed_on}


def build_everything(config: Experiment) -> None:
    """All that a run makes of its config, without running."""
    from gestalt.models.start import build_model, check_names
    from gestalt.results.run_record import scorers_of
    from gestalt.runs import train as run
    from gestalt.runs.folders import new_version
    from gestalt.runs.resume import resolve_resume
    from gestalt.training.progress import Clock

    check_names(config)
    assert resolve_resume(config) is None
    folder = new_version(config)
    if "pascal_voc" in config.evaluation.benchmarks:
        build_model(config)
        with pytest.raises(ValueError, match=r"\bVOC\b"):  # the root was read, and nothing is there
            run.build(config)
        return
    parts = run.build(config)
    parts.module.configure_optimizers()
    trainer = run._trainer(parts, Clock(0.0), folder, run._first_lines(parts), None)
    for scorer in scorers_of(parts.callbacks):
        scorer.on_validation_epoch_start(trainer, parts.module)


def pretrain_both() -> None:
    """Eight steps of either way of pretraining."""
    for init in ("dino", "supervised"):
        line = f"pretrain --init {init} --scale tiny --to {init}.safetensors"
        run_here(f"{line} trainer.enable_progress_bar=false")


@pytest.mark.slow
def test_every_key_is_read_by_some_code(reads, cwd):
    for overrides in BRANCHES:
        build_everything(load("clippy_dino_max", scale="tiny", overrides=overrides))
    pretrain_both()
    assert unread(load("clippy_dino_max", scale="tiny"), reads) == set()
