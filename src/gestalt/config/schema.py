"""The schema, whose defaults are the paper's run as far as it is known.

Source of the defaults: Ranasinghe et al. 2023 (arXiv:2210.09996), tables 1 and 6 and section
3.  What its main text does not state (optimiser, rates, batch, warm-up) follows kahnchana/clippy at
04bf78b or is our choice: docs/training.md lists which.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, ClassVar, Literal, NoReturn

from gestalt.config.keys import key, positive, unhashed
from gestalt.config.schema_data import Data
from gestalt.config.schema_evaluation import Evaluation
from gestalt.config.schema_loss import Loss
from gestalt.config.schema_pretraining import Pretraining
from gestalt.encoders.timm_names import PLAIN
from gestalt.support.typed import ConfigError as ConfigError
from gestalt.tables import AGGREGATIONS, IMAGE_TOWERS, INITS, TEXT_TOWERS

ENTRIES = "list of class paths, or of `{class_path: ..., init_args: {...}}`"
CLASS_PATHS = {
    "logger": "lightning.pytorch.loggers.CSVLogger",
    "trainer.callbacks": "lightning.pytorch.callbacks.DeviceStatsMonitor",
}
"""Keys whose entries name classes -> such a class."""


def refuse(name: str, value: Any, why: str) -> NoReturn:
    """Raise a ConfigError that names the key, its value, and why it is refused."""
    raise ConfigError(f"{name}={value}: {why}")


Complaints = Iterator[tuple[str, str]]
"""Pairs of a key and the reason why its value is refused."""


def refuse_first(config: "Experiment", complaints: Complaints) -> None:
    """Raise a ConfigError of the first complaint, with the value that the key has."""
    for name, why in complaints:
        refuse(name, attrgetter(name)(config), why)


MAX_WIDTH, MAX_DEPTH, MAX_SIDE = 2**16, 1000, 2**14
"""Largest width, number of blocks and image side in pixels that a file may ask for."""

ARCHITECTURE = ("backbone", "family", "patch_size", "width", "depth", "heads", "stem")
"""Keys of ``image`` that say which image tower is built."""


@dataclass
class Image:
    """The image tower and how its tokens become one vector."""

    backbone: str = key(
        "vit_base_patch16_224",
        "Architecture of the image tower.",
        kind="a timm architecture",
        pattern=PLAIN,
        form="a name of timm without a colon, which would fetch another model",
    )
    family: str = key(
        "vit",
        "A ViT or a CNN of timm, or [a tower of your own](contributing.md#a-tower). A `cnn` has no "
        "class token, and no patch tokens that can be dropped; only a `vit` has attention that can "
        "be read.",
        choices=IMAGE_TOWERS,
    )
    patch_size: int | None = positive(
        None, "Side of a ViT's patches. `null`: the architecture's.", kind="pixels"
    )
    width: int | None = positive(
        None, "Width of a ViT. `null`: the architecture's.", kind="channels", at_most=MAX_WIDTH
    )
    depth: int | None = positive(
        None, "Depth of a ViT. `null`: the architecture's.", kind="blocks", at_most=MAX_DEPTH
    )
    heads: int | None = positive(
        None, "Attention heads of a ViT; their number divides `width`. `null`: the architecture's."
    )
    stem: Literal["patch", "conv"] = key(
        "patch",
        "First layers of a ViT: a patch embedding, or strided convolutions, which learn faster "
        "from random weights.",
    )
    init: str = key(
        "dino",
        "Initial weights of the image tower.",
        kind=f"{', '.join(INITS)}, a timm tag of the backbone, or any word for a file of weights "
        "or for a tower of your own",
    )
    inits: dict[str, str] = key(
        {},
        "What each init stands for at this scale: an init, or a file of weights, of this package "
        "or by its path, which may have any name. Empty: each for itself.",
    )
    weights: str | None = key(
        None, "Checkpoint that replaces the weights of `init`. `null`: none.", kind="path"
    )
    aggregation: str = key("max", "How the patch tokens become one vector.", choices=AGGREGATIONS)
    subsampling: bool = key(
        True,
        "Train at `train_size` with `keep_tokens` of the patch tokens; `false`: at `eval_size` "
        "with all of them.",
    )
    train_size: int = positive(
        448,
        "Side of the training images under `subsampling`; a multiple of `patch_size`.",
        kind="pixels",
        at_most=MAX_SIDE,
    )
    keep_tokens: float = positive(
        0.2, "Share of the patch tokens kept under `subsampling`.", at_most=1
    )
    eval_size: int = positive(
        224,
        "Side of the images in evaluation; a multiple of `patch_size`.",
        kind="pixels",
        at_most=MAX_SIDE,
    )
    frozen: bool = key(False, "Do not train the image tower.")
    frozen_blocks: int = key(
        0,
        "Number of first blocks of the image tower (of a CNN: stages) that are not trained, "
        "together with its stem and embeddings. 0: train all, unless `frozen`.",
        kind="blocks",
        at_least=0,
    )
    gradient_checkpointing: bool = unhashed(
        False, "Recompute activations in the backward pass: less memory, more time."
    )

    def changes(self) -> dict[str, Any]:
        """Return the keys that change timm's ViT, with their values."""
        keys = ("patch_size", "width", "depth", "heads")
        return {key: getattr(self, key) for key in keys if getattr(self, key) is not None}


@dataclass
class Text:
    """The text tower and how its tokens become one vector."""

    family: str = key(
        "sentence",
        "A sentence-transformers model; CLIP's text transformer, with GELU or with QuickGELU; that "
        "of a `start` from SigLIP or SigLIP 2; or [a tower of your own](contributing.md#a-tower).",
        choices=TEXT_TOWERS,
    )
    model: str = key(
        "sentence-transformers/sentence-t5-base",
        "Model of family `sentence`; `package:NAME` is one that a pip package ships. Of a SigLIP: "
        "its tokenizer's origin.",
        kind="a hub name, a path or `package:NAME`",
    )
    init: Literal["sentence", "random"] = key(
        "sentence",
        "Pretrained weights of the model, or random weights; family `open_clip` requires `random`.",
    )
    layers: int | None = key(
        None,
        "Number of first layers to keep; 0 keeps only the word embeddings. `null`: all.",
        at_least=0,
        at_most=MAX_DEPTH,
    )
    width: int | None = positive(
        None,
        "Width of family `open_clip`; `null` for family `sentence`.",
        kind="channels",
        at_most=MAX_WIDTH,
    )
    heads: int | None = positive(
        None, "Attention heads of family `open_clip`; `null` for family `sentence`."
    )
    mlp_ratio: float = positive(
        4.0, "Width of the MLPs of families other than `sentence`, over `width`."
    )
    vocabulary: int | None = positive(None, "Tokens that a SigLIP knows. `null`: the tokenizer's.")
    max_length: int = positive(77, "Longest caption; longer captions are truncated.", kind="tokens")
    aggregation: str = key("avg", "How the word tokens become one vector.", choices=AGGREGATIONS)
    frozen: bool = key(False, "Do not train the text tower.")


@dataclass
class Projection:
    """From the towers' widths to the shared one."""

    order: Literal["before", "after", "none", "siglip", "classifier"] = key(
        "before",
        "Project tokens before or after aggregation; `none`, as in the paper's public code: no "
        "projection; of a `start` only: `siglip`, before, its attention pooling in the image's "
        "place; `classifier`, image tokens before, by its class names, text not.",
    )
    width: int = positive(
        768,
        "Width of the shared space, and of each tower that is not projected.",
        kind="channels",
        at_most=MAX_WIDTH,
    )


@dataclass
class Optimizer:
    """Optimiser and schedule.

    The paper's main text states neither: rate and decay are those of its public code, betas and eps
    those of CLIP for ViTs.
    """

    name: Literal["adamw", "lamb"] = key("adamw", "The optimiser.")
    learning_rate: float = positive(5e-4, "Peak learning rate.")
    betas: tuple[float, float] = key(
        (0.9, 0.98),
        "Decay of the running means of gradient and squared gradient.",
        at_least=0,
        below=1,
    )
    eps: float = positive(1e-6, "Constant added to the denominator of an update.")
    weight_decay: float = key(0.2, "Decoupled weight decay, for matrices only.", at_least=0)
    warmup_steps: int = key(
        2000,
        "Steps of linear warm-up. Our choice: the public code sets 10,000 and stops at 5,000.",
        kind="steps",
        at_least=0,
    )
    final_rate: float = key(
        0.0,
        "Share of the peak learning rate at the end of the cosine schedule.",
        at_least=0,
        at_most=1,
    )
    image_rate: float = positive(1.0, "Factor on the learning rate of the image tower.")
    text_rate: float = positive(1.0, "Factor on the learning rate of the text tower.")
    layer_decay: float = positive(
        1.0, "Factor on the learning rate per block, from the last block to the first.", at_most=1
    )
    ema: float | None = positive(
        None, "Decay of the averaged weights that validation uses. `null`: no averaging.", below=1
    )


@dataclass
class ClassPath:
    """One entry of `logger` or of `trainer.callbacks`."""

    class_path: str = key("", "Path of the class.")
    init_args: dict[str, Any] = key({}, "Arguments of the class.")


@dataclass
class Trainer:
    """Keywords of Lightning's `Trainer`, but for `accumulate_grad_batches` and `compile`, which the
    training step reads.
    """

    accelerator: str = unhashed(
        "auto", "Hardware to run on.", choices=("auto", "cpu", "gpu", "cuda", "mps")
    )
    strategy: str = unhashed(
        "auto",
        "How work is distributed over devices.",
        choices=("auto", "ddp", "ddp_find_unused_parameters_true"),
    )
    devices: int | str = unhashed(
        "auto",
        "Devices of each node.",
        pattern=r"auto|[1-9]\d{0,2}|\d+(,\d+)+",
        form="auto, a number of devices from 1 to 999, or the devices' numbers such as '0,2'",
    )
    num_nodes: int = unhashed(1, "Number of nodes; more than one requires a launcher.", above=0)
    precision: str = key(
        "bf16-mixed",
        "Number format of weights and activations.",
        choices=("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true"),
    )
    max_epochs: int | None = positive(
        32, "Number of epochs. -1 or `null`: no limit.", kind="epochs", also=-1
    )
    max_steps: int = positive(-1, "Number of steps. -1: no limit.", kind="steps", also=-1)
    max_time: str | None = unhashed(
        None,
        "Longest time of training. `null`: no limit.",
        pattern=r"\d{2}:\d{2}:\d{2}:\d{2}",
        form="days:hours:minutes:seconds, such as 00:12:00:00",
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
    )
    gradient_clip_val: float | None = positive(
        1.0, "Largest norm of the gradient. `null`: no clipping."
    )
    deterministic: bool = key(
        False,
        "Use deterministic algorithms only. Not possible on CUDA if position embeddings are "
        "resized in training.",
    )
    benchmark: bool = key(False, "Let cuDNN benchmark its algorithms and choose the fastest.")
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
    )
    callbacks: list[ClassPath | str] = key(
        [],
        "Further callbacks of training, after our own: classes of `lightning.pytorch.callbacks` or "
        "of any package or file on the path. Checkpoints keep their state.",
        form=ENTRIES,
    )
    enable_progress_bar: bool = unhashed(True, "Show a progress bar.")
    enable_model_summary: bool = unhashed(False, "Print a table of the model's layers.")

    def named_devices(self) -> int:
        """Return the number of devices that ``devices`` names; 0 if it leaves the number open."""
        named = str(self.devices)
        return len(named.split(",")) if "," in named else int(named) if named.isdecimal() else 0


@dataclass
class Experiment:
    """A method at a scale.

    Attributes:
        overrides: the ``key=value`` words that it was loaded with, for the record of a run; its
            other fields include them.  ``dataclasses.replace`` loses them: load another experiment.
    """

    overrides: ClassVar[tuple[str, ...]] = ()

    image: Image = field(default_factory=Image)
    text: Text = field(default_factory=Text)
    projection: Projection = field(default_factory=Projection)
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    data: Data = field(default_factory=Data)
    pretraining: Pretraining = field(default_factory=Pretraining)
    evaluation: Evaluation = field(default_factory=Evaluation)
    trainer: Trainer = field(default_factory=Trainer)
    start: str | None = key(
        None,
        "Weights of both towers, the projections and the logit scale that training starts from; "
        "architecture and `image.eval_size` follow them, and inits are not read. `null`: the "
        "inits.",
        kind="a run's folder, checkpoint or exported folder, `open_clip:ARCHITECTURE:TAG`, "
        "`open_clip:FOLDER` or `classifier:ARCHITECTURE`",
    )
    seed: int = key(0, "Seed of weights, order and augmentation.", at_least=0)
    checkpoint_every_steps: int | None = unhashed(
        None,
        "Steps between checkpoints within an epoch. `null`: at the end of each epoch only.",
        kind="steps",
        above=0,
    )
    rank_timeout: int = unhashed(
        600,
        "Longest time that ranks wait for each other before the run stops.",
        kind="seconds",
        above=0,
    )
    resume: str | None = unhashed(
        None,
        "Run to continue: `last` is the newest with the same keys; `auto` is the unfinished one "
        "with the same keys, or else a new run. `null`: a new run.",
        kind="`last`, `auto`, a run's folder or a checkpoint",
    )
    logger: list[ClassPath | str] = unhashed(
        [],
        "Further loggers beside TensorBoard: classes of `lightning.pytorch.loggers` or of any "
        "package or file on the path. `init_args` are arguments of the class; `save_dir` and "
        "`name` are the run's unless given. A resumed run continues the same run of each.",
        form=ENTRIES,
    )
    benchmark_root: str | None = unhashed(
        None, "Folder with the files of the benchmarks. `null`: none.", kind="path"
    )
    benchmark_subset: bool = key(
        False, "Accept benchmarks whose number of images differs from the published one."
    )
    name: str = key(
        "", "The experiment; set by `train NAME`, not by an override.", kind="an experiment"
    )
    scale: str = key("", "The scale; set by `--scale NAME`, not by an override.", kind="a scale")


def is_file_of_weights(used: str) -> bool:
    """Return True if a value of ``image.inits`` is a file."""
    return used.endswith((".safetensors", ".pth", ".pt", ".bin"))


def class_paths(config: Experiment, name: str) -> list[ClassPath]:
    """Return the entries of a key of CLASS_PATHS, whose classes are not imported.

    Raises:
        ConfigError: an entry has no path of a class.
    """
    entries = attrgetter(name)(config)
    parts = [ClassPath(entry) if isinstance(entry, str) else entry for entry in entries]
    for part in parts:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", part.class_path):
            why = f"not the path of a class; choose one such as {CLASS_PATHS[name]}"
            refuse(name, part.class_path, why)
    return parts
