"""pretrain: pretrain an image tower where no weights can be downloaded."""

import shlex
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from gestalt.commands.flags import add_keys, add_scale
from gestalt.config.check import check_nodes, check_pretraining
from gestalt.config.folders import LOGS
from gestalt.config.loading import load
from gestalt.config.schema import NOT_HASHED, Experiment, to_plain, to_yaml
from gestalt.data_modules.keys import check_options
from gestalt.models.names import CHECKPOINT
from gestalt.runs.experiment import check_pairs
from gestalt.runs.locks import hold
from gestalt.support.addresses import change_texts, without_secrets
from gestalt.support.files import write_whole
from gestalt.support.keys import flatten
from gestalt.support.names import stem
from gestalt.support.typed import ConfigError, read_keys

FREE = {key for key in NOT_HASHED if not key.startswith("pretraining.")} | {
    "pretraining.save_every_steps"
}
"""Keys that may differ between an interrupted run and the run that continues it."""


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--init",
        choices=("dino", "supervised"),
        required=True,
        help="self-distillation, or classification by labels",
    )
    add_scale(parser)
    parser.add_argument(
        "--to",
        metavar="FILE",
        help="default: lightning_logs/pretrained/SCALE/INIT.safetensors",
    )
    add_keys(parser)


class Making(NamedTuple):
    """The configuration of a scale, and the file to write."""

    config: Experiment
    file: Path


def check(arguments: Namespace) -> Making:
    """Return the configuration of a scale, and the file to write."""
    words = [f"image.init={arguments.init}", "evaluation.benchmarks=[]", *arguments.overrides]
    config = load(None, scale=arguments.scale, overrides=words)
    check_pretraining(config, init=arguments.init)
    file = Path(
        arguments.to
        or LOGS / "pretrained" / stem(arguments.scale) / f"{arguments.init}.safetensors"
    )
    if file.suffix != ".safetensors":  # The loader accepts lower case only.
        raise ConfigError(f"--to {file}: name a file that ends in .safetensors")
    if file.exists():
        raise ConfigError(f"{file} exists; choose another --to, or remove it")
    check_nodes(config.trainer)
    check_options(config.data)
    check_pairs(config)
    return Making(config, file)


def run(arguments: Namespace) -> int:
    """Pretrain the weights of ``image.init``, write them with a JSON file beside them, and print
    the path.  An interrupted run is resumed.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the gradient is NaN or infinite.
        ValueError: the configuration cannot run, or the folder belongs to an unfinished run with
            other keys.
    """
    from gestalt.models.start import check_names
    from gestalt.runs.pretraining import make
    from gestalt.support.process import first_rank, keep_freed_memory, tell

    making: Making = arguments.checked
    config, file = making.config, making.file
    check_names(config)
    keep_freed_memory()
    folder = file.with_suffix("")
    busy = f"another process makes {file}: wait for it, or choose another --to"
    with hold(folder / ".lock", busy) if first_rank() else nullcontext():
        if first_rank():
            _keep_keys(folder, config)
        make(file, config, shlex.join(["gestalt", *arguments.words]))
    tell(f"image.init {config.image.init}: {file}")
    return 0


def _keep_keys(folder: Path, config: Experiment) -> None:
    """Write ``config.yaml``.  Refuse a folder with a checkpoint of other keys, which this run would
    resume.
    """
    saved = folder / "config.yaml"
    if (folder / CHECKPOINT).is_file() and saved.is_file():
        before = flatten(change_texts(read_keys(saved), without_secrets))
        changed = [
            key
            for key, value in flatten(to_plain(config)).items()
            if key not in FREE and before.get(key, value) != value
        ]
        if changed:
            raise ConfigError(
                f"{folder}: an unfinished pretraining with another {', '.join(changed)}; choose "
                "another --to, or remove it"
            )
    write_whole(saved, to_yaml(config))
