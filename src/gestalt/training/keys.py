"""Keys of ``optimizer`` and ``trainer``, and entries that name classes."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

from gestalt.encoders.inits import folder_of
from gestalt.support.keys import Reader, key, positive, refuse, unhashed
from gestalt.support.names import suggestion

ENTRIES = "list of class paths, or of `{class_path: ..., init_args: {...}}`"
ADAMW_EPS = 1e-6
"""``eps`` of AdamW where none is given.  Up to 0.3.0, runs with other optimisers had it too."""

LAST = "last"
"""Name of the newest checkpoint's file, without ending."""

CLASS_PATHS = {
    "logger": "lightning.pytorch.loggers.CSVLogger",
    "trainer.callbacks": "lightning.pytorch.callbacks.LearningRateMonitor",
}
"""Keys whose entries name classes -> such a class."""


@dataclass
class Optimizer:
    """Optimiser and schedule.

    The paper's main text does not state them. Learning rate and weight decay are those of its
    public code; betas and eps are those of CLIP for ViTs.
    """

    read_by: ClassVar[Reader] = Reader.TRAINING

    name: str = key(
        "adamw",
        "The optimiser. It uses those of the keys below that it supports. Its momentum, if it has "
        "one, is 0.9. `muon`, `nmuon`, `adamuon` and `nadamuon` train the matrices of the towers' "
        "blocks; all other parameters are trained with AdamW.",
        kind="`adamw`, `lamb` or another of timm's optimisers",
    )
    learning_rate: float = positive(5e-4, "Peak learning rate.")
    betas: tuple[float, float] = key(
        (0.9, 0.98),
        "Decay of the running means of gradient and squared gradient.",
        at_least=0,
        below=1,
    )
    eps: float | None = positive(
        None,
        "Constant added to the denominator of an update. `null`: 1e-6 for `adamw`, the default of "
        "timm for every other optimiser, and the saved one for a run that is resumed.",
    )
    weight_decay: float = key(
        0.2,
        "Weight decay, for matrices only. `sgd`, `momentum`, `adam`, `nadam`, `nadamlegacy`, "
        "`radam`, `adamax`, `adopt`, `cadopt`, `adadelta`, `adagrad`, `madgrad`, `novograd`, "
        "`rmsprop`, `rmsproptf`, `crmsproptf` and the LARS optimisers add it to the gradient; "
        "`lamb`, `lambc` and `clamb` add it to the update that they scale. The others decouple it.",
        at_least=0,
    )
    warmup_steps: int = key(
        2000,
        "Steps of linear warm-up. Our choice: the public code sets 10,000 and stops at 5,000.",
        kind="steps",
        at_least=0,
    )
    schedule: Literal["cosine", "constant", "constant_cooldown"] = key(
        "cosine",
        "The learning rate after the warm-up: `cosine` falls to `final_rate` along half a cosine, "
        "`constant` stays at the peak, and `constant_cooldown` stays at the peak and falls "
        "linearly to `final_rate` at the end.",
    )
    cooldown_steps: int | None = positive(
        None,
        "Number of steps at the end in which `constant_cooldown` falls. `null`: none.",
        kind="steps",
    )
    final_rate: float = key(
        0.0,
        "Learning rate at the end of a falling schedule, as a share of the peak.",
        at_least=0,
        at_most=1,
    )
    image_rate: float = positive(1.0, "Learning-rate multiplier for the image tower.")
    text_rate: float = positive(1.0, "Learning-rate multiplier for the text tower.")
    names_rate: float = key(
        0.0,
        "Learning-rate multiplier for the class-name embeddings of a classifier "
        "(`start=classifier:...`). Above 0, they are trained instead of the linear map. 0: they "
        "are frozen.",
        at_least=0,
    )
    layer_decay: float = positive(
        1.0, "Learning-rate multiplier for each block, from the last block to the first.", at_most=1
    )
    ema: float | None = positive(
        None, "Decay of the averaged weights that validation uses. `null`: no averaging.", below=1
    )

    def __post_init__(self) -> None:
        if self.eps is None and self.name == "adamw":
            self.eps = ADAMW_EPS


@cache
def timm_optimizers() -> tuple[str, ...]:
    """Return the names of timm's optimisers, without those that need another package, three betas
    or second derivatives; timm, which imports torch, is not imported.
    """
    text = (folder_of("timm") / "optim" / "_optim_factory.py").read_text(encoding="utf-8")
    return tuple(re.findall(r"name='(?!bnb|fused|c?adan|adahessian)(\w+)'", text))


def check_optimizer(optimizer: Optimizer) -> None:
    """Check the optimiser's name, without importing timm, and the schedule's keys.

    Raises:
        ConfigError: timm has none of this name, or one that needs what a run does not give; or a
            cooldown without its schedule, or the reverse.
    """
    name = optimizer.name
    if name != "adamw" and name not in timm_optimizers():
        why = "timm has none of this name that takes two betas and needs no further package"
        refuse("optimizer.name", name, f"{why}; {suggestion(name, timm_optimizers())}")
    if (optimizer.cooldown_steps is None) == (optimizer.schedule == "constant_cooldown"):
        why = "goes with optimizer.schedule=constant_cooldown; set both or neither"
        refuse("optimizer.cooldown_steps", optimizer.cooldown_steps, why)


@dataclass
class ClassPath:
    """One entry of `logger` or of `trainer.callbacks`."""

    class_path: str = key("", "Path of the class.")
    init_args: dict[str, Any] = key({}, "Arguments of the class.")


@dataclass
class Trainer:
    """Arguments of Lightning's `Trainer`, except `accumulate_grad_batches` and `compile`, which the
    training step uses.
    """

    accelerator: str = unhashed(
        "auto",
        "Hardware to run on.",
        choices=("auto", "cpu", "gpu", "cuda", "mps"),
        read_by=Reader.EXTERNAL,
    )
    strategy: str = unhashed(
        "auto",
        "How work is distributed over devices.",
        choices=("auto", "ddp", "ddp_find_unused_parameters_true"),
        read_by=Reader.EXTERNAL,
    )
    devices: int | str = unhashed(
        "auto",
        "Devices of each node.",
        pattern=r"auto|[1-9]\d{0,2}|\d+(,\d+)+",
        form="auto, a number of devices from 1 to 999, or the devices' numbers such as '0,2'",
        read_by=Reader.EXTERNAL,
    )
    num_nodes: int = unhashed(
        1, "Number of nodes; more than one requires a launcher.", above=0, read_by=Reader.EXTERNAL
    )
    precision: str = key(
        "bf16-mixed",
        "Number format of weights and activations.",
        choices=("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true"),
        read_by=Reader.EXTERNAL,
    )
    max_epochs: int | None = positive(
        32,
        "Number of epochs. -1 or `null`: no limit.",
        kind="epochs",
        also=-1,
        read_by=Reader.TRAINING,
    )
    max_steps: int = positive(
        -1, "Number of steps. -1: no limit.", kind="steps", also=-1, read_by=Reader.TRAINING
    )
    max_time: str | None = unhashed(
        None,
        "Maximum time of training. `null`: no limit.",
        pattern=r"\d{2}:\d{2}:\d{2}:\d{2}",
        form="days:hours:minutes:seconds, such as 00:12:00:00",
        read_by=Reader.TRAINING,
    )
    limit_train_batches: int | None = positive(None, "Steps per epoch. `null`: all.", kind="steps")
    check_val_every_n_epoch: int = positive(1, "Epochs between validations.", kind="epochs")
    log_every_n_steps: int = unhashed(10, "Steps between logged points.", kind="steps", above=0)
    accumulate_grad_batches: int = positive(
        1,
        "Batches of `data.batch_size` per step. Loss and gradient equal those of a single batch "
        "that is this many times as large, while "
        "the towers' activations need the memory of one batch.",
        kind="batches",
        read_by=Reader.TRAINING,
    )
    gradient_clip_val: float | None = positive(
        1.0, "Maximum norm of the gradient. `null`: no clipping."
    )
    deterministic: bool = key(
        False,
        "Use deterministic algorithms only. Not possible on CUDA if position embeddings are "
        "resized in training.",
        read_by=Reader.EXTERNAL,
    )
    benchmark: bool = key(
        False, "Let cuDNN benchmark its algorithms and choose the fastest.", read_by=Reader.EXTERNAL
    )
    compile: Literal["none", "towers", "step"] = unhashed(
        "none",
        "Compile the towers, or the whole forward pass of a step with the loss, before the first "
        "step; validation is not compiled.",
    )
    detect_anomaly: bool = unhashed(
        False, "Stop where a gradient becomes NaN and name the operation; slow."
    )
    profiler: str | None = unhashed(
        None,
        "Lightning's profiler, written to `profile/`. `null`: none.",
        choices=("simple", "advanced", "pytorch"),
        read_by=Reader.EXTERNAL,
    )
    callbacks: list[ClassPath | str] = key(
        [],
        "Callbacks for training: classes of `lightning.pytorch.callbacks` or of any package or "
        "file on the path. Checkpoints store their state.",
        form=ENTRIES,
        read_by=Reader.TRAINING,
    )
    enable_progress_bar: bool = unhashed(
        True, "Show a progress bar.", read_by=Reader.EXTERNAL | Reader.LABEL_MAPS
    )
    enable_model_summary: bool = unhashed(False, "Print a table of the model's layers.")

    def named_devices(self) -> int:
        """Return the number of devices that ``devices`` names; 0 if it leaves the number open."""
        named = str(self.devices)
        if "," in named:
            return len(named.split(","))
        return int(named) if named.isdecimal() else 0


def check_end(trainer: Trainer) -> None:
    """Check that training ends.

    Raises:
        ConfigError: names the keys.
    """
    if trainer.max_steps == -1 and trainer.max_epochs in (None, -1):
        why = (
            "the learning rate's schedule needs an end; set trainer.max_steps or trainer.max_epochs"
        )
        refuse("trainer.max_steps", trainer.max_steps, why)


def class_paths(name: str, entries: list[ClassPath | str]) -> list[ClassPath]:
    """Return the entries of a key of ``CLASS_PATHS``, whose classes are not imported.

    Raises:
        ConfigError: an entry has no path of a class.
    """
    parts = [ClassPath(entry) if isinstance(entry, str) else entry for entry in entries]
    for part in parts:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", part.class_path):
            why = f"not the path of a class; choose one such as {CLASS_PATHS[name]}"
            refuse(name, part.class_path, why)
    return parts
