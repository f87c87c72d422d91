"""Open the training module from a checkpoint, which contains its configuration."""

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

from gestalt import module
from gestalt.encoders.checkpoints import read_checkpoint
from gestalt.encoders.state_dicts import cause
from gestalt.losses.build import list_nouns, reading_nouns
from gestalt.models.names import PLANNED, config_of, run_of, unnamed_places
from gestalt.models.opening import load_checkpoint_model
from gestalt.runs.source import build_source
from gestalt.runs.training import module_arguments
from gestalt.support.arguments import PATH, check_type

NOT_LOADED = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    UnpicklingError,
)
"""Errors that Lightning and torch raise for a file that is not a checkpoint of the module."""


class ContrastiveModule(module.ContrastiveModule):  # noqa: D101 -- that of the base class
    __doc__ = module.ContrastiveModule.__doc__

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *options: Any, **arguments: Any) -> Self:
        """Build the module that wrote a checkpoint, from the configuration in it, and load its
        weights.

        Args:
            checkpoint_path: the file.
            options: positional arguments of Lightning.
            arguments: keyword arguments of Lightning, and arguments of the module that replace
                those in the checkpoint.  Pass ``model`` for your own model.  ``overrides`` are
                ``key=value`` words that change the saved configuration.  If the file comes from
                elsewhere, they must name the code that it uses again, and also the data if the
                auxiliary loss ``nouns`` reads its captions.

        Raises:
            ValueError: the checkpoint has no configuration and no ``model`` is given, or it cannot
                be read, or its weights do not fit the model.
        """
        if not hasattr(checkpoint_path, "read"):  # only an open file has "read"
            check_type("checkpoint_path", checkpoint_path, PATH, "the path of a checkpoint")
        if "model" not in arguments:
            overrides = arguments.pop("overrides", ())
            arguments = arguments_of(checkpoint_path, overrides) | arguments
        try:
            return super().load_from_checkpoint(checkpoint_path, *options, **arguments)
        except NOT_LOADED as error:
            if not isinstance(checkpoint_path, PATH) or "://" in str(checkpoint_path):
                raise
            read_checkpoint(Path(checkpoint_path), keys=("state_dict", "gestalt"))
            raise ValueError(
                f"{checkpoint_path} cannot be loaded: {cause(error)}; give a checkpoint of "
                f"{cls.__name__} and the arguments that it was built with"
            ) from error


def arguments_of(checkpoint: str | PathLike[str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the arguments of ``ContrastiveModule`` for a checkpoint of a run that ``build`` made.

    Raises:
        ValueError: the checkpoint cannot be read, or has no configuration; or it names code, or
            data that an auxiliary loss reads, and ``overrides`` do not name them.
    """
    path = Path(fspath(checkpoint))
    run = run_of(path)
    config, content = config_of(path, run, overrides=overrides), read_checkpoint(path)
    places = unnamed_places(path, run, config, overrides)
    nouns = None
    if reading_nouns(config.loss):
        places.refuse("data.")
        nouns = list_nouns(config.loss, build_source(config))
    model = load_checkpoint_model(path, config, content).train()
    saved = content["gestalt"]
    total = saved.get("schedule") or saved[PLANNED]
    return module_arguments(config, model, total, nouns)
