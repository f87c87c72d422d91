"""Load an experiment by name or file, and check it before anything heavy is imported."""

from os import PathLike, fspath

from gestalt.config.check import check_places, check_training
from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.data_modules.corpora.file_checks import check_files
from gestalt.encoders.inits import check_backbone_name
from gestalt.runs.cache_key import check_cache
from gestalt.runs.resume import resolve_resume
from gestalt.support.arguments import PATH, check_type
from gestalt.support.typed import ConfigError
from gestalt.tables import IMAGE_TOWERS


def experiment(
    name: str | PathLike[str], *overrides: str, scale: str | PathLike[str] = "demo"
) -> Experiment:
    """Load the configuration of a training run, with the checks of ``gestalt train``.

    Args:
        name: one of ``gestalt list experiments``, or the path of a YAML file.
        overrides: ``key=value`` words, such as ``seed=1``.
        scale: one of ``gestalt list scales``, or the path of a YAML file.

    Raises:
        ValueError: a name or a key is unknown, a value or a combination of values cannot run, or a
            file does not exist.  The message says what to change.

    Example:
        >>> experiment = gestalt.experiment("clippy_dino_max", "seed=1", scale="demo")
        >>> experiment.seed, experiment.image.aggregation
        (1, 'max')
    """
    check_type("name", name, PATH, "the name of an experiment or the path of its file")
    check_type("scale", scale, PATH, "the name of a scale or the path of its file")
    for word in overrides:
        if not isinstance(word, str):
            raise ConfigError(f"{word!r}: an override is one text key=value, such as 'seed=1'")
    config = load(fspath(name), scale=fspath(scale), overrides=overrides)
    check_run(config)
    check_cache(config)
    return config


def check_run(config: Experiment) -> None:
    """Check that a configuration can be trained, that the backbone is known, and that the files
    exist that training reads: image-text pairs, weights, and the checkpoint to resume from.

    Raises:
        ValueError: a file is missing, or contradicts the configuration.
    """
    check_training(config)
    check_pairs(config)
    if config.image.family in IMAGE_TOWERS.built_in:
        check_backbone_name(config.image.backbone)
    resolve_resume(config)


def check_pairs(config: Experiment) -> None:
    """Check that the files of the training data exist, and that the first or last bytes of
    ``data.source`` files are right.

    The files of a mixture's parts are checked when they are opened.

    Raises:
        ValueError: names the key and the file.
    """
    check_places(config)
    check_files(config.data)
