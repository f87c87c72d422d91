"""Make an init file once, in one process, while others wait for it."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from gestalt.callbacks.bad_samples import BadSamples
from gestalt.callbacks.checkpoints import EpochCheckpoint, SaveOnSignal, StepCheckpoint
from gestalt.callbacks.speed import RunProgressBar, Speed
from gestalt.callbacks.trainer import make_trainer
from gestalt.config.identity import to_plain, to_yaml
from gestalt.config.schema import ConfigError, Experiment
from gestalt.encoders.checkpoints import read_resumable
from gestalt.pretraining.init_file import InitFile, write_init_file
from gestalt.pretraining.nearest import NEIGHBOURS, TEMPERATURE
from gestalt.pretraining.pretrainer import Pretrainer
from gestalt.pretraining.probe import Probe
from gestalt.results.record import provenance
from gestalt.runs import locks
from gestalt.runs.names import CHECKPOINT
from gestalt.support.files import replacing
from gestalt.support.parent import followed
from gestalt.support.signals import STOPPING, Interrupted, handled, stop

LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
LAUNCHER_PREFIXES = ("TORCHELASTIC_", "SLURM_", "ROLE_", "GROUP_")
FORECAST_STEP = 10  # when the time left is printed


class Plan(NamedTuple):
    """The parts of a pretraining run.

    Attributes:
        module: trains the tower.
        data: its images.
        probe: measures the tower meanwhile.
        bad_samples: counts the images that cannot be read.
        untrimmed: the trunk as ``build_trunk`` makes it.
        description: description of data and labels, for the record.
    """

    module: Pretrainer
    data: LightningDataModule
    probe: Probe
    bad_samples: BadSamples
    untrimmed: nn.Module
    description: dict[str, Any]


class Forecast(Callback):
    """Prints the time left once, after ``FORECAST_STEP`` steps."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.printed = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Print the forecast."""
        if trainer.is_global_zero and not self.printed and self.speed.images_per_second and batch_idx >= FORECAST_STEP:
            minutes, seconds = divmod(int(self.speed.seconds_left), 60)
            pl_module.print(f"{trainer.max_steps - trainer.global_step} steps to go, about {minutes} min {seconds} s")
            self.printed = True


def ensure(file: InitFile, config: Experiment) -> None:
    """Make the file in a process of its own, unless it exists.

    The process must neither join the ranks that wait for it nor change this one's random numbers.

    Raises:
        ConfigError: pretraining failed; its own output says why.
        Interrupted: after a signal, also while another process makes the file.
    """
    if file.exists():
        return
    with (
        handled(*STOPPING, by=stop),
        locks.hold(file.folder / ".launch", busy=f"image.init: waiting for another process that makes {file.path}", wait=True),
    ):
        if file.exists():
            return
        saved = file.folder / "config.yaml"
        with replacing(saved) as partial:
            partial.write_text(to_yaml(replace(config, resume=None, trainer=replace(config.trainer, num_nodes=1))))
        length = f"{config.pretraining.steps} steps of {config.pretraining.batch_size} images"
        print(f"image.init {config.image.init}: not made yet at this scale; making it once, {length}; log: {file.folder}", file=sys.stderr)
        status = _run([sys.executable, "-P", "-m", "gestalt", "pretrain", "--config", str(saved)])
        if status - 128 in STOPPING:
            raise Interrupted(status - 128, file.folder / CHECKPOINT)
        if status or not file.exists():
            raise ConfigError(f"image.init={config.image.init}: pretraining ended with status {status}; see its output above")


def _run(command: list[str]) -> int:
    """Run a command without this process's launcher variables; its output goes to stderr, since stdout is for results.

    Ctrl-C, SIGTERM and SIGUSR1 are passed on once each, even if sent to every process: the command saves its state and ends.

    Returns:
        Its exit status; 128 + the signal's number after a signal.
    """
    environment = {key: value for key, value in followed().items() if key not in LAUNCHERS and not key.startswith(LAUNCHER_PREFIXES)}
    received: list[int] = []
    process = subprocess.Popen(command, stdout=2, env=environment, process_group=0)

    def pass_on(number: int, frame: Any) -> None:
        received.append(number)
        process.send_signal(number)

    with handled(*STOPPING, by=pass_on):
        status = process.wait()
    return 128 + received[-1] if received else status


def make(file: InitFile, plan: Callable[[], Plan], config: Experiment, *, first: bool) -> None:
    """Pretrain and write the file, unless it exists; an interrupted run is resumed.  The ``first`` rank holds the lock for all.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the loss is NaN or infinite.
        TooManyBad: the share of unreadable images exceeds ``data.max_bad_share``.
        ConfigError: another process makes the file, and these are several ranks, which cannot wait one by one.
    """
    if file.exists():
        return
    if not first:
        _make(file, plan(), config)
        return
    several = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) > 1
    busy = f"waiting for another process that makes {file.path}"
    with locks.hold(file.folder / ".lock", busy=f"{busy}: try again when it exists" if several else busy, wait=not several):
        if not file.exists():
            with replacing(file.folder / "config.yaml") as partial:
                partial.write_text(to_yaml(config))
            _make(file, plan(), config)


def _make(file: InitFile, plan: Plan, config: Experiment) -> None:
    """Train on every rank; write on the first."""
    trainer = _trainer(file, plan, config)
    checkpoint = file.folder / CHECKPOINT
    resume = checkpoint.is_file()
    if resume:
        read_resumable(checkpoint, partly_trained=True)  # refused in one line if damaged; the head is not trained at first
    trainer.fit(plan.module, datamodule=plan.data, ckpt_path=str(checkpoint) if resume else None, weights_only=True if resume else None)
    if not trainer.is_global_zero:
        return
    record = {
        "init": config.image.init,
        "decides": file.decides,
        **plan.description,
        "bad_samples": plan.bad_samples.record(),
        "steps": trainer.global_step,
        "seed": config.pretraining.seed,
        "loss_curve": plan.module.curve,
        "last_step": plan.module.last,
        "knn": {"neighbours": NEIGHBOURS, "temperature": TEMPERATURE, "curves": plan.probe.curves},
        "seconds": plan.probe.clock.seconds,
        "config": to_plain(config),
        "provenance": provenance(),
    }
    write_init_file(file, plan.module.trained_tower, untrimmed=plan.untrimmed, size=config.pretraining.global_size, record=record)
    checkpoint.unlink(missing_ok=True)


def _trainer(file: InitFile, plan: Plan, config: Experiment) -> Trainer:
    speed, trainer = Speed(), config.trainer
    callbacks: list[Callback] = [plan.probe, plan.bad_samples, plan.probe.clock, speed, Forecast(speed), SaveOnSignal(), EpochCheckpoint()]
    callbacks += [StepCheckpoint(every_steps=config.pretraining.score_every_steps)]
    callbacks += [RunProgressBar(speed)] if trainer.enable_progress_bar else []
    keys = ("accelerator", "strategy", "devices", "num_nodes", "precision", "log_every_n_steps", "deterministic", "benchmark")
    return make_trainer(
        file.folder,
        rank_timeout=config.rank_timeout,
        **{key: getattr(trainer, key) for key in (*keys, "detect_anomaly", "enable_progress_bar", "enable_model_summary")},
        max_epochs=-1,
        max_steps=config.pretraining.steps,
        limit_val_batches=0,
        logger=TensorBoardLogger(file.folder.parent, name="", version=file.folder.name, default_hp_metric=False),
        callbacks=callbacks,
    )
