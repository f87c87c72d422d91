"""pretrain: what the command line calls to make an init."""

from functools import partial
from pathlib import Path

from gestalt.building.model import check_names
from gestalt.building.pretraining import build_plan
from gestalt.building.source import product_of
from gestalt.commands.process import keep_freed_memory, quiet
from gestalt.config.schema import Experiment
from gestalt.pretraining import making
from gestalt.runs.folders import first_rank


def pretrain(config: Experiment) -> Path:
    """Make the weights that ``image.init`` is at this scale, unless they are there.  Returns the file.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the loss is no longer a number.
        ValueError: the configuration cannot run.
    """
    quiet()
    check_names(config)
    keep_freed_memory()
    product = product_of(config)
    making.make(product, partial(build_plan, config), config, first=first_rank())
    return product.file
