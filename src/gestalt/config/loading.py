"""Load a configuration: schema <- scale <- experiment <- command line, or the saved one of a run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gestalt.config.check import check
from gestalt.config.identity import flatten
from gestalt.config.merging import merge
from gestalt.config.scale_limits import lifted
from gestalt.config.schema import ConfigError, Experiment
from gestalt.config.schema_loss import Loss
from gestalt.config.schema_pretraining import Pretraining
from gestalt.support.names import nearest

WHOLE = "evaluation.limit=null"
"""Override put before the command line of an evaluation: it scores all images, even if training scored a part after each epoch."""

FOLDERS = {
    "name": "name the experiment after `gestalt train`",
    "scale": "a saved run keeps its scale; for a new run choose --scale",
}
"""Keys that name a run's folder -> how to choose them; only a run's config.yaml may set them."""


def _shipped() -> Path:
    """Return the folder of experiments: package data of an installed wheel, or the one at the top of a checkout."""
    packaged = Path(str(resources.files("gestalt"))) / "experiments"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "experiments"


EXPERIMENTS = _shipped()
LOGS = Path("lightning_logs")  # under the working directory


TAKEN = ("ablations", "data", "pretrained", "zoo")
"""Folders of ``LOGS`` that are not an experiment's."""

MOST_BYTES = 2**20
MOST_VALUES = 10_000
"""Limits of a configuration file; ours have a few thousand bytes and a few hundred values."""

UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError, RecursionError)
"""Errors of the YAML reader: of its grammar, its values (``!!int x``, 2020-99-99) and its depth."""


class _Values(yaml.SafeLoader):
    """YAML in which ``12:00:00:00`` is a text such as ``trainer.max_time``, not a number of base 60."""

    def construct_yaml_int(self, node: Any) -> Any:
        """Return a number, or the text."""
        return node.value if ":" in node.value else super().construct_yaml_int(node)


_Values.add_constructor("tag:yaml.org,2002:int", _Values.construct_yaml_int)


def load(name: str | None, *, scale: str | None, overrides: list[str] | None = None, folder: Path = EXPERIMENTS) -> Experiment:
    """Merge schema <- scale <- experiment <- command line, and check the whole; ``scale_limits`` decides which limits of the scale hold.

    Args:
        name: experiment, the stem of a YAML in ``folder`` or the path of another; None for a scale alone.
        scale: the stem of a YAML in ``folder / "scales"`` or the path of another; None for the schema alone.
        overrides: ``key.sub=value`` words.
        folder: folder of the experiments, with ``scales`` in it.

    Raises:
        ConfigError: an unknown name or key, a wrong type or value, or a combination that cannot run.
    """
    files = [] if scale is None else [find_yaml(folder / "scales", scale, kind="--scale")]
    files += [] if name is None else [find_yaml(folder, name, kind="experiment")]
    if stem(name or "") in TAKEN:
        why = f"its runs would lie among other files, in {LOGS / stem(name or '')}"
        raise ConfigError(f"experiment {name}: {why}; rename the file, such as my_{files[-1].name}")
    layers = [(path.name, _read(path)) for path in files]
    for origin, layer in layers:
        if not layer:
            raise ConfigError(f"{origin}: sets no key; write those that differ from the defaults, such as image: {{aggregation: max}}")
    layers += _command_line(overrides)
    if scale is not None:
        first, *later = (flatten(OmegaConf.to_container(layer)) for _, layer in layers)  # type: ignore[arg-type]
        layers.insert(1, (files[0].name, OmegaConf.create(lifted(first, later))))
    merged = _merge_all(layers)
    merged.name, merged.scale = stem(name or ""), stem(scale or "")
    return _checked(merged)


def load_saved(path: Path, *, overrides: list[str] | None = None) -> Experiment:
    """Read the resolved ``config.yaml`` of a run, with further overrides; its loss may be of a package that is not installed any more.

    Raises:
        ConfigError: the file is missing or does not fit the schema.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a run's folder holds config.yaml beside checkpoints/")
    return _checked(_merge_all([(str(path), _of_this_version(_read(path))), *_command_line(overrides)]), saved=True)


def load_mapping(content: dict[str, Any], *, origin: Path, overrides: list[str] | None = None) -> Experiment:
    """Check a resolved configuration, a mapping as ``identity.to_plain`` gives, as ``load_saved``; ``origin`` is the file it is from.

    Raises:
        ConfigError: it does not fit the schema.
    """
    _check_values(content, origin=str(origin))
    layer = _of_this_version(OmegaConf.create(content))
    return _checked(_merge_all([(str(origin), layer), *_command_line(overrides)]), saved=True)


def is_path(name: str) -> bool:
    """Return True if a word for an experiment, a scale or a grid is the path of a file, not the name of a shipped one."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def stem(name: str) -> str:
    """Return the name that runs of an experiment, a scale or a grid are filed under: that of the file, for a path."""
    return Path(name).stem if is_path(name) else name


def find_yaml(folder: Path, name: str, *, kind: str) -> Path:
    """Return the file of an experiment, a scale or a grid.

    Args:
        folder: folder of the shipped files.
        name: the stem of a shipped file, or the path of another, relative to the working directory.
        kind: kind of the word, for messages: experiment, --scale or grid.

    Raises:
        ConfigError: no such file; the message names the nearest.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if not is_path(name):
        if name not in known:
            own = f"for your own file write ./{name}.yaml; " if Path(f"{name}.yaml").is_file() else ""
            raise ConfigError(f"{kind} {name}: no {folder.name}/{name}.yaml; {own}{nearest(name, known)}")
        return folder / f"{name}.yaml"
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(f"{kind} {name}: {path.absolute()} not found; give the path of a YAML file, or choose one of {', '.join(known)}")
    return path


def _read(path: Path) -> Any:
    """Read a YAML file that may be a stranger's: bounded in size, without interpolations, which could read the environment."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: larger than {MOST_BYTES} bytes; a configuration is a few thousand")
        content = _Values(path.read_text()).get_single_data() or {}
        _check_values(content, origin=str(path))
        layer = OmegaConf.create(content)
    except ConfigError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except UNREADABLE as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not OmegaConf.is_dict(layer):
        raise ConfigError(f"{path}: holds a list; a configuration is keys with values, such as image: {{init: random}}")
    return layer


def _check_values(content: Any, *, origin: str) -> None:
    """Refuse interpolations, keys and numbers that no configuration has, and values that YAML aliases multiply beyond ``MOST_VALUES``."""
    nodes, values = [content], 0
    while nodes:
        node = nodes.pop()
        values += 1
        if values > MOST_VALUES:
            raise ConfigError(f"{origin}: more than {MOST_VALUES} values, with YAML aliases written out; a configuration has a few hundred")
        if isinstance(node, str) and "${" in node:
            raise ConfigError(f"{origin}: {node!r}: interpolations are not supported; write the value")
        if isinstance(node, int) and abs(node) >= 2**63:
            raise ConfigError(f"{origin}: a number of {node.bit_length()} bits; choose one of at most 63")
        odd = [key for key in node if not isinstance(key, str) or not key.isprintable()] if isinstance(node, dict) else []
        if odd:
            raise ConfigError(f"{origin}: {odd[0]!r} is not a key; a key is a name such as data.limit")
        nodes += [*node.keys(), *node.values()] if isinstance(node, dict) else node if isinstance(node, list) else []


def _override(word: str) -> Any:
    key, sign, value = word.partition("=")
    if not sign or not key or not key.isprintable():
        scale = f"; for the scale write --scale {word}" if word in [path.stem for path in (EXPERIMENTS / "scales").glob("*.yaml")] else ""
        raise ConfigError(f"{word!r}: an override is key=value, such as trainer.max_epochs=2{scale}")
    if key.isupper():
        raise ConfigError(f"{word!r}: {key} is not a key but may be a variable of make, which stands outside ARGS; see gestalt --help")
    if "${" in word:
        raise ConfigError(f"{word!r}: interpolations are not supported; write the value")
    if key in FOLDERS:
        raise ConfigError(f"{word}: not a key to set; {FOLDERS[key]}")
    try:
        layer = OmegaConf.from_dotlist([f"{key}='{value}'" if re.fullmatch(r"\d+(:\d+)+", value) else word])  # as _Values
        _check_values(OmegaConf.to_container(layer), origin=repr(word))
        return layer
    except ConfigError:
        raise
    except UNREADABLE as error:
        raise ConfigError(f"{word!r}: the value cannot be read: {' '.join(str(error).split())}") from error


def _command_line(words: Sequence[str] | None) -> list[tuple[str, Any]]:
    return [("command line", _override(word)) for word in words or ()]


def _of_this_version(layer: Any) -> Any:
    """Leave out what a saved configuration has of ``pretraining`` and the schema has not: no run reads these keys."""
    group = layer.get("pretraining")
    if isinstance(group, Mapping):
        for name in set(group) - {item.name for item in fields(Pretraining)}:
            del layer["pretraining"][name]
    return layer


def _merge_all(layers: Sequence[tuple[str, Any]]) -> Any:
    """Merge the schema and the layers; each comes with the name of its file, for messages."""
    merged = OmegaConf.structured(Experiment)
    for origin, layer in layers:
        merged = merge(merged, layer, origin=origin)
    return merged


def _checked(merged: Any, *, saved: bool = False) -> Experiment:
    try:
        config = OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}: not set, and it has no default") from error
    assert isinstance(config, Experiment)
    check(replace(config, loss=Loss()) if saved else config)  # no loss is built of a saved configuration
    return config
