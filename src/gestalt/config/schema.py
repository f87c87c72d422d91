"""The schema of the configuration, and the hash that identifies a run.  The defaults are the
paper's run as far as it is known.

Source of the defaults: Ranasinghe et al. 2023 (arXiv:2210.09996), tables 1 and 6 and section 3.
Settings that the main text does not state (optimiser, rates, batch, warm-up) follow
kahnchana/clippy at 04bf78b or are our choice; docs/training.md lists which.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import yaml

from gestalt.data_modules.keys import Data
from gestalt.encoders.keys import Image, Projection, Text
from gestalt.losses.keys import NOUN_LIST, Loss, terms_of
from gestalt.measures.keys import Evaluation
from gestalt.pretraining.keys import Pretraining
from gestalt.support.addresses import change_texts, without_secrets
from gestalt.support.keys import Keys, Reader, flatten, key, unflatten, unhashed
from gestalt.support.plugins import find_code
from gestalt.support.typed import fields_below
from gestalt.tables import TERMS
from gestalt.training.keys import ENTRIES, ClassPath, Optimizer, Trainer


@dataclass
class Experiment:
    """A method at a scale.

    Attributes:
        overrides: the ``key=value`` words that the experiment was loaded with, for the results
            file. The other fields already include them.  ``dataclasses.replace`` loses them, so
            load another experiment instead.
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
        "Trained model whose towers, projections and logit scale training starts from. The "
        "architecture and `image.eval_size` follow it, and the keys of pretrained weights are not "
        "read. `text:` or `image:` before it takes that tower alone. `null`: the pretrained "
        "weights that `image` and `text` name.",
        kind="a run's folder, checkpoint or exported folder, `open_clip:ARCHITECTURE:TAG`, "
        "`open_clip:FOLDER` or `classifier:ARCHITECTURE`",
        read_by=Reader.TRAINING,
    )
    seed: int = key(
        0, "Seed of weights, order and augmentation.", at_least=0, read_by=Reader.TRAINING
    )
    checkpoint_every_steps: int | None = unhashed(
        None,
        "Steps between checkpoints within an epoch. `null`: at the end of each epoch only.",
        kind="steps",
        above=0,
        read_by=Reader.TRAINING,
    )
    checkpoint_keep: int | None = unhashed(
        None,
        "Store a checkpoint at each multiple of this number of steps, as "
        "`checkpoints/step_<n>.ckpt`. `null`: only the last and the best.",
        kind="steps",
        above=0,
        read_by=Reader.TRAINING,
    )
    rank_timeout: int = unhashed(
        600,
        "Maximum time that ranks wait for each other before the run stops.",
        kind="seconds",
        above=0,
    )
    resume: str | None = unhashed(
        None,
        "Run to continue: `last` is the newest with the same keys; `auto` is the unfinished one "
        "with the same keys, or else a new run. `null`: a new run.",
        kind="`last`, `auto`, a run's folder or a checkpoint",
        read_by=Reader.TRAINING,
    )
    logger: list[ClassPath | str] = unhashed(
        [],
        "Loggers in addition to TensorBoard: classes of `lightning.pytorch.loggers` or of any "
        "package or file on the path. `init_args` are arguments of the class; `save_dir` and "
        "`name` are the run's unless given. A resumed run continues the same run of each.",
        form=ENTRIES,
        read_by=Reader.TRAINING,
    )
    benchmark_root: str | None = unhashed(
        None,
        "Folder with the files of the benchmarks. `null`: none.",
        kind="path",
        read_by=Reader.EXTERNAL | Reader.LABEL_MAPS,
    )
    benchmark_subset: bool = key(
        False,
        "Accept benchmarks whose number of images differs from the published one.",
        read_by=Reader.EXTERNAL | Reader.LABEL_MAPS,
    )
    name: str = key(
        "", "The experiment; set by `train NAME`, not by an override.", kind="an experiment"
    )
    scale: str = key("", "The scale; set by `--scale NAME`, not by an override.", kind="a scale")


NOT_HASHED = tuple(
    name for name, item in fields_below(Experiment) if not item.metadata["key"].hashed
)
"""Keys that do not change the expected value of a result: paths, and keys that set how the work is
distributed and displayed.
"""


def to_yaml(config: Experiment) -> str:
    """Return the resolved configuration as YAML."""
    return yaml.safe_dump(to_plain(config), sort_keys=False)


def to_plain(config: Experiment) -> Keys:
    """Return the resolved configuration as dicts and lists, to write or compare.  URLs are without
    user info, query and fragment.
    """
    return change_texts(asdict(config), without_secrets)


def keys_below(config: Experiment, prefixes: tuple[str, ...]) -> Keys:
    """Return the keys that start with one of the prefixes, such as ``evaluation.`` or
    ``data.root=``, as dicts.
    """
    flat = flatten(to_plain(config)).items()
    return unflatten({key: value for key, value in flat if f"{key}=".startswith(prefixes)})


def hashed_keys(config: Experiment) -> Keys:
    """Return the keys that identify a run, as a flat dictionary.

    Paths count only with their last part, so that data may move. This applies to the roots of data
    and captions, ``data.manifest``, ``data.include``, ``image.weights`` and the file of a
    benchmark. URLs count without user info, query and fragment, so that a token may change.
    Accumulated batches count as one batch of their total size. The options of an auxiliary loss
    count only if the run has that loss.
    """
    terms = terms_of(config.loss)
    read: tuple[str, ...] = (
        NOUN_LIST
        if any(
            find_code(f"{term}=") or (term in TERMS and TERMS.row(term).reads_nouns)
            for term in terms
        )
        else ()
    )
    if read and (config.loss.nouns_alike is not None or "nouns_of_images" in terms):
        read = (*read, "loss.nouns_phrase")  # the phrase affects which nouns are alike, too
    unread = ("loss.terms.", *(f"loss.{term}_" for term in TERMS if term not in terms))
    flat = {key: value for key, value in flatten(to_plain(config)).items() if key not in NOT_HASHED}
    flat = {key: value for key, value in flat.items() if key in read or not key.startswith(unread)}
    flat |= {f"loss.terms.{name}": weight for name, weight in terms.items()}
    flat["data.batch_size"] *= flat["trainer.accumulate_grad_batches"]
    flat["trainer.accumulate_grad_batches"] = 1
    flat["data.mixture"] = [last_parts(part, "root", "manifest") for part in flat["data.mixture"]]
    flat["evaluation.benchmarks"] = [Path(name).name for name in flat["evaluation.benchmarks"]]
    files = "data.root", "data.captions.root", "data.manifest", "data.include", "image.weights"
    return last_parts(flat, *files)


def last_parts(keys: Keys, *paths: str) -> Keys:
    """Return the keys with each path cut to its last part."""
    return keys | {key: Path(keys[key]).name for key in paths if keys.get(key) is not None}


DEFAULTS = flatten(to_plain(Experiment()))
"""Key of the schema -> default, as a flat dictionary."""


def config_hash(config: Experiment) -> str:
    """Return a hash of 12 hexadecimal digits of the keys in :func:`hashed_keys` that differ from
    their defaults.  A new key therefore does not change existing hashes.
    """
    keys = {
        key: value
        for key, value in hashed_keys(config).items()
        if key not in DEFAULTS or value != DEFAULTS[key]
    }
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:12]
