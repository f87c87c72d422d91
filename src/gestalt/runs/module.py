"""The training module, opened from a checkpoint by the configuration in it."""

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
"""Errors of Lightning and torch on a file that is not a checkpoint of the module."""


class ContrastiveModule(module.ContrastiveModule):  # noqa: D101 -- that of the base class
    __doc__ = module.ContrastiveModule.__doc__

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *options: Any, **arguments: Any) -> Self:
        """Build the module that wrote a checkpoint, from the configuration in it, and load its
        weights.

        Args:
            checkpoint_path: the file.
            options: Lightning's.
            arguments: Lightning's, and those of the module in place of the checkpoint's own; for a
                model of one's own ``model``; and ``overrides``, ``key=value`` words
                on the saved configuration, which have to name again the code that a file from
                elsewhere names, and the data if the term ``nouns`` reads their captions.

        Raises:
            ValueError: the checkpoint has no configuration and no ``model`` is given, or it cannot
                be read, or its weights do not fit the model.
        """
        if not hasattr(checkpoint_path, "read"):  # an open file
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
        ValueError: it has no configuration, names code, or data that a term of its loss reads,
            that ``overrides`` do not, or cannot be read.
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
