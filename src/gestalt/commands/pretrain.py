"""pretrain: what the command line calls to make an init."""

from functools import partial
from pathlib import Path

from gestalt.building import model as build
from gestalt.building import pretraining as build_pretraining
from gestalt.commands.memory import keep_freed_memory
from gestalt.commands.process import quiet
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
    build.check_names(config)
    keep_freed_memory()
    product = build_pretraining.product_of(config)
    making.make(product, partial(build_pretraining.build_plan, config), config, first=first_rank())
    return product.file
