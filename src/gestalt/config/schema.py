"""The schema, whose defaults are the paper's run as far as it is known.

Source of the defaults: Ranasinghe et al. 2023 (arXiv:2210.09996), tables 1 and 6 and section
3.  What its main text does not state (optimiser, rates, batch, warm-up) follows kahnchana/clippy at
04bf78b or is our choice: docs/training.md lists which.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from gestalt.data_modules.keys import Data
from gestalt.encoders.keys import Image, Projection, Text
from gestalt.losses.keys import Loss
from gestalt.measures.keys import Evaluation
from gestalt.pretraining.keys import Pretraining
from gestalt.support.keys import key, unhashed
from gestalt.training.keys import ENTRIES, ClassPath, Optimizer, Trainer


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
