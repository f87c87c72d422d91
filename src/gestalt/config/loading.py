"""Load the configuration of an experiment: schema <- scale <- experiment <- command line.  Later
layers win.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gestalt.config.check import check
from gestalt.config.folders import EXPERIMENTS, LOGS, RESERVED, find_yaml
from gestalt.config.merge import merge
from gestalt.config.schema import Experiment
from gestalt.config.start import folder_of, keys_of, read_start, refuse_misfit
from gestalt.config.trust import code_of, refuse_code
from gestalt.config.words import layers_of
from gestalt.data_modules.keys import Data
from gestalt.support.keys import Keys, flatten, unflatten
from gestalt.support.names import stem
from gestalt.support.plugins import code_complaint
from gestalt.support.typed import ConfigError, read_keys

LIMITS = ("data.limit", "pretraining.limit")
"""Keys that limit a run to the first samples."""


def load(
    name: str | None,
    *,
    scale: str | None,
    overrides: Sequence[str] = (),
) -> Experiment:
    """Merge schema <- scale <- experiment <- command line, and check the result.

    Args:
        name: experiment: the stem of a YAML file in ``EXPERIMENTS``, or the path of another file;
            None for a scale without an experiment.
        scale: the stem of a YAML file in the folder ``scales`` of ``EXPERIMENTS``, or the path of
            another file; None for no scale.
        overrides: ``key.sub=value`` words.

    Raises:
        ConfigError: a name or a key is unknown, a type or a value is wrong, or a combination cannot
            run.
    """
    files = [] if scale is None else [find_yaml(EXPERIMENTS / "scales", scale, kind="--scale")]
    files += [] if name is None else [find_yaml(EXPERIMENTS, name, kind="experiment")]
    label = stem(name or "")
    if label in RESERVED:
        raise ConfigError(
            f"experiment {name}: its runs would be written among other files, in {LOGS / label}; "
            f"rename the file, such as my_{files[-1].name}"
        )
    layers = [(path.name, read_keys(path)) for path in files]
    for origin, layer in layers:
        if not layer:
            raise ConfigError(
                f"{origin}: sets no key; write those that differ from the defaults, such as image: "
                f"{{aggregation: max}}"
            )
    layers += layers_of(overrides)
    following = _following(layers, place=f"{label}/{stem(scale or '')}")
    layers.insert(0 if scale is None else 1, ("start", unflatten(following)))
    if scale is not None:
        (_, first), *later = layers
        layers.insert(1, (files[0].name, _lift_limits(first, [layer for _, layer in later])))
    config = replace(merge(layers), name=label, scale=stem(scale or ""))
    code = code_of(config)
    own = [word for word in code if word.partition("=")[0] not in following]
    refuse_code(code, [*own, *overrides], origin=f"start={config.start}")
    for word, name in code.items():
        if complaint := code_complaint(name):
            raise ConfigError(f"{word}: {complaint}")
    refuse_misfit(config, following)
    check(config)
    vars(config)["overrides"] = tuple(overrides)
    return config


def _following(layers: list[tuple[str, Keys]], *, place: str) -> Keys:
    """Return the keys that the weights of ``start`` determine, as a flat dictionary.

    A resumed run does not read these weights again, so its saved keys are used. ``place`` is the
    folder of the experiment's runs at this scale, relative to the logs.
    """
    chosen = {key: value for _, layer in layers for key, value in layer.items()}
    start, resume = chosen.get("start"), chosen.get("resume")
    if start is None:
        return {}
    if resume in ("last", "auto"):
        runs = [*LOGS.glob(f"{place}/version_*")]
    else:
        run = folder_of(Path(str(resume)))
        runs = [run, *run.glob("version_*")]
    for run in runs:
        saved = run / "config.yaml"
        if saved.is_file() and str(read_keys(saved).get("start")) == str(start):
            tower = read_start(str(start)).tower
            return keys_of(f"{tower}:{run}" if tower else str(run))
    return keys_of(str(start))


def _lift_limits(scale: Keys, later: list[Keys]) -> Keys:
    """Return a layer that sets the scale's limits to null if later layers name other data;
    otherwise an empty layer.

    The data differ if ``data.source`` differs, or if the scale sets ``data.root`` and it differs. A
    scale without a root leaves the path of the data to the user. For ``scenes``, which have no end,
    the limit is the length of an epoch.
    """
    limited = flatten(scale)
    chosen = {key: value for layer in later for key, value in flatten(layer).items()}
    source, root = limited.get("data.source", Data().source), limited.get("data.root")
    same_source = chosen.get("data.source", source) == source
    same_root = root is None or chosen.get("data.root", root) == root
    return (
        {}
        if same_source and same_root
        else unflatten({key: None for key in LIMITS if key in limited})
    )
