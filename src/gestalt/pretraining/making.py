"""Making an init: once, by one process, while others that need it wait."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from gestalt.callbacks.bad_samples import BadSamples
from gestalt.callbacks.checkpoints import AtomicCheckpointIO, EpochCheckpoint, SaveOnSignal, StepCheckpoint
from gestalt.callbacks.speed import RunProgressBar, Speed
from gestalt.config.identity import to_plain, to_yaml
from gestalt.config.schema import ConfigError, Experiment
from gestalt.ledger.record import provenance
from gestalt.pretraining.nearest import NEIGHBOURS, TEMPERATURE
from gestalt.pretraining.pretrainer import Pretrainer
from gestalt.pretraining.probe import Probe
from gestalt.pretraining.product import Product, held, write_product
from gestalt.runs.names import LAST

LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
LAUNCHER_PREFIXES = ("TORCHELASTIC_", "SLURM_", "ROLE_", "GROUP_")
FORECAST = 10  # steps after which the time left is said


class Plan(NamedTuple):
    """The parts of a pretraining.

    Attributes:
        module: what is trained.
        data: what it is trained on.
        probe: what is measured meanwhile.
        bad_samples: what counts the images that cannot be read.
        whole: the trunk's architecture before anything was taken off it.
        about: of data and labels, for the record.
    """

    module: Pretrainer
    data: LightningDataModule
    probe: Probe
    bad_samples: BadSamples
    whole: nn.Module
    about: dict[str, Any]


class Forecast(Callback):
    """Says once, after a few steps, how long it will take."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.said = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Say it."""
        if trainer.is_global_zero and not self.said and self.speed.images_per_second and batch_idx >= FORECAST:
            minutes, seconds = divmod(int(self.speed.seconds_left), 60)
            pl_module.print(f"{trainer.max_steps - trainer.global_step} steps to go, about {minutes} min {seconds} s")
            self.said = True


def ensure(product: Product, config: Experiment) -> None:
    """Have the product made, in a process of its own, unless it is there.

    A process of its own, because it must neither join the ranks that wait for it nor touch this one's random numbers.

    Raises:
        ConfigError: it could not be made; its own lines say why.
    """
    if product.exists():
        return
    with held(product.folder / ".launch", waiting=f"image.init: waiting for another process that makes {product.file}"):
        if product.exists():
            return
        saved = product.folder / "config.yaml"
        saved.write_text(to_yaml(replace(config, resume=None, trainer=replace(config.trainer, num_nodes=1))))
        words = f"{config.pretraining.steps} steps of {config.pretraining.batch_size} images"
        print(
            f"image.init {config.image.init}: not made yet at this scale; making it once, {words}; log: {product.folder}", file=sys.stderr
        )
        status = _run([sys.executable, "-m", "gestalt", "pretrain", "--config", str(saved)])
        if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise SystemExit(status)
        if status or not product.exists():
            raise ConfigError(f"image.init={config.image.init}: pretraining ended with status {status}; its lines are above")


def _run(command: list[str]) -> int:
    """Run in a process that knows nothing of this one's launcher; what it says goes to the error stream, since results go to the other.

    Ctrl-C and SIGTERM, whether this process alone got them or all of a terminal's, are passed on once each: it saves its state and ends.

    Returns:
        Its status; that of the signal where one came, whatever became of it.
    """
    left_out = [key for key in os.environ if key in LAUNCHERS or key.startswith(LAUNCHER_PREFIXES)]
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    told: list[int] = []
    process = subprocess.Popen(command, stdout=2, env=environment, process_group=0)

    def pass_on(number: int, frame: Any) -> None:
        told.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + told[-1] if told else status


def make(product: Product, plan: Callable[[], Plan], config: Experiment, *, first: bool) -> None:
    """Pretrain and write the product, unless it is there; goes on from the state that an interrupted run saved.

    Args:
        product: where.
        plan: builds the parts.
        config: of the whole run.
        first: whether this is the first of the ranks: it holds the lock for all.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the loss is no longer a number.
        TooManyBad: more images cannot be read than ``data.max_bad_share``.
        ConfigError: these are ranks of a launcher, and another process is making it: ranks cannot wait apart.
    """
    if product.exists():
        return
    if not first:
        _make(product, plan(), config)
        return
    together = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) > 1
    with held(product.folder / ".lock", waiting=f"waiting for another process that makes {product.file}", wait=not together):
        if not product.exists():
            (product.folder / "config.yaml").write_text(to_yaml(config))
            _make(product, plan(), config)


def _make(product: Product, plan: Plan, config: Experiment) -> None:
    """Train on every rank; the first writes."""
    trainer = _trainer(product, plan, config)
    state = product.folder / "checkpoints" / f"{LAST}.ckpt"
    going_on = state.is_file()
    trainer.fit(plan.module, datamodule=plan.data, ckpt_path=str(state) if going_on else None, weights_only=True if going_on else None)
    if not trainer.is_global_zero:
        return
    tower, recipe = plan.module.product, config.pretraining
    record = {
        "init": config.image.init,
        "decides": product.decides,
        **plan.about,
        "bad_samples": plan.bad_samples.record(),
        "steps": trainer.global_step,
        "seed": recipe.seed,
        "loss_curve": plan.module.curve,
        "last_step": plan.module.last,
        "knn": {"neighbours": NEIGHBOURS, "temperature": TEMPERATURE, "curves": plan.probe.curves},
        "seconds": plan.probe.clock.seconds,
        "config": to_plain(config),
        "provenance": provenance(),
    }
    write_product(product, tower, whole=plan.whole, size=recipe.global_size, record=record)
    state.unlink(missing_ok=True)


def _trainer(product: Product, plan: Plan, config: Experiment) -> Trainer:
    speed, trainer = Speed(), config.trainer
    callbacks: list[Callback] = [plan.probe, plan.bad_samples, plan.probe.clock, speed, Forecast(speed), SaveOnSignal(), EpochCheckpoint()]
    callbacks += [StepCheckpoint(every_steps=config.pretraining.score_every_steps)]
    callbacks += [RunProgressBar(speed)] if trainer.enable_progress_bar else []
    keys = ("accelerator", "strategy", "devices", "num_nodes", "precision", "log_every_n_steps", "deterministic", "benchmark")
    return Trainer(
        **{key: getattr(trainer, key) for key in (*keys, "detect_anomaly", "enable_progress_bar", "enable_model_summary")},
        max_epochs=-1,
        max_steps=config.pretraining.steps,
        limit_val_batches=0,
        logger=TensorBoardLogger(product.folder.parent, name="", version=product.folder.name, default_hp_metric=False),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
    )
