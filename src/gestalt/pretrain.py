"""pretrain: what the command line calls to make an init."""

from functools import partial
from pathlib import Path

from gestalt import build, build_pretraining
from gestalt.memory import keep_freed_memory
from gestalt.pretraining import making
from gestalt.quiet import quiet
from gestalt.runs import first_rank
from gestalt.schema import Experiment


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
