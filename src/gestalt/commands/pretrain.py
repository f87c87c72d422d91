"""pretrain: make an image init where none can be downloaded."""

import shlex
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from gestalt.commands.process import quiet
from gestalt.commands.stopping import tell, until_stopped
from gestalt.config.identity import NOT_HASHED, to_plain, to_yaml
from gestalt.config.schema import Experiment
from gestalt.models.building import check_names
from gestalt.models.names import CHECKPOINT
from gestalt.publishing.init_file import folder_of, make
from gestalt.runs.locks import hold
from gestalt.runs.pretraining import build_pretraining
from gestalt.support.addresses import change_texts, without_secrets
from gestalt.support.files import write_whole
from gestalt.support.keys import flatten
from gestalt.support.memory import keep_freed_memory
from gestalt.support.ranks import first_rank
from gestalt.support.typed import ConfigError
from gestalt.support.yaml_values import read_keys

FREE = {key for key in NOT_HASHED if not key.startswith("pretraining.")} | {
    "pretraining.save_every_steps"
}
"""Keys in which a run may differ from the interrupted one that it continues."""


def run(arguments: Namespace) -> int:
    """Make the weights and print the file."""
    words = ["gestalt", "pretrain", "--init", arguments.init, "--scale", arguments.scale]
    command = shlex.join([*words, *arguments.overrides])
    return until_stopped(lambda: pretrain(arguments.config, arguments.file, command))


def pretrain(config: Experiment, file: Path, command: str) -> None:
    """Make the weights of ``image.init``, and the JSON beside them; an interrupted run is resumed.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the gradient is NaN or infinite.
        ValueError: the configuration cannot run, or the file's folder is of an unfinished run with
            other keys.
    """
    quiet()
    check_names(config)
    keep_freed_memory()
    folder = folder_of(file)
    busy = f"another process makes {file}: wait for it, or choose another --to"
    with hold(folder / ".lock", busy) if first_rank() else nullcontext():
        if first_rank():
            _keep_keys(folder, config)
        make(file, build_pretraining(config), config, command)
    tell(f"image.init {config.image.init}: {file}")


def _keep_keys(folder: Path, config: Experiment) -> None:
    """Write ``config.yaml``, unless a checkpoint of other keys is there, which this run would
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
