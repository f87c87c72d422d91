"""pretrain: make an image init where none can be downloaded."""

from argparse import Namespace
from functools import partial
from pathlib import Path

from gestalt.building.model import check_names
from gestalt.building.pretraining import build_plan
from gestalt.building.source import made_file_of
from gestalt.commands.process import quiet
from gestalt.commands.stopping import tell, until_stopped
from gestalt.config.schema import Experiment
from gestalt.pretraining import make_init
from gestalt.runs.folders import first_rank
from gestalt.support.memory import keep_freed_memory


def run(arguments: Namespace) -> int:
    """Make the weights and print the file."""
    config: Experiment = arguments.config
    return until_stopped(lambda: tell(f"image.init {config.image.init}: {pretrain(config)}"))


def pretrain(config: Experiment) -> Path:
    """Make the weights of ``image.init`` at this scale, unless they were made here; a shipped file does not count.  Returns the file.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the loss is NaN or infinite.
        ValueError: the configuration cannot run.
    """
    quiet()
    check_names(config)
    keep_freed_memory()
    file = made_file_of(config)
    make_init.make(file, partial(build_plan, config), config, first=first_rank())
    return file.path
