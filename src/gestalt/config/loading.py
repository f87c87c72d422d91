"""``load``: schema <- scale <- experiment <- command line; and what of a configuration tells two runs apart."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gestalt.config.check import check
from gestalt.config.identity import flatten
from gestalt.config.schema import ConfigError, Experiment
from gestalt.support.names import nearest

WHOLE = "evaluation.limit=null"
"""Before the command line: what training scored after each epoch may be a part of a set; what is measured afterwards is all of it."""

FOLDERS = {
    "name": "name the experiment: EXP=..., or behind train",
    "scale": "a saved run keeps its own, for a new one choose SCALE=..., or --scale",
}
"""Keys that say where a run lies, and what chooses them; a run's config.yaml has them, nothing else may."""

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
LOGS = Path("lightning_logs")  # under the working directory


def load(name: str | None, *, scale: str | None, overrides: list[str] | None = None, folder: Path = EXPERIMENTS) -> Experiment:
    """Merge schema <- scale <- experiment <- command line, and check the whole.

    Args:
        name: experiment, the stem of a YAML in ``folder``; None for a scale alone.
        scale: the stem of a YAML in ``folder / "scales"``; None for the schema alone.
        overrides: ``key.sub=value`` words.
        folder: where the files lie.

    Raises:
        ConfigError: an unknown name or key, a wrong type or value, or a combination that cannot run.
    """
    files = [] if scale is None else [_file(folder / "scales", scale, what="SCALE")]
    files += [] if name is None else [_file(folder, name, what="EXP")]
    layers = [(path.name, _read(path)) for path in files]
    layers += [("command line", _override(word)) for word in overrides or []]
    merged = OmegaConf.structured(Experiment)
    for origin, layer in layers:
        merged = _merge(merged, layer, origin=origin)
    merged.name, merged.scale = name or "", scale or ""
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Experiment)
    check(config)
    return config


def load_saved(path: Path, *, overrides: list[str] | None = None) -> Experiment:
    """Read the resolved ``config.yaml`` of a run, with further overrides.

    Raises:
        ConfigError: the file is missing or does not fit the schema.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a run's folder holds config.yaml beside checkpoints/")
    merged = _merge(OmegaConf.structured(Experiment), _read(path), origin=str(path))
    for word in overrides or []:
        merged = _merge(merged, _override(word), origin="command line")
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Experiment)
    check(config)
    return config


def _file(folder: Path, name: str, *, what: str) -> Path:
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"{what}={name}: no {folder.name}/{name}.yaml; {nearest(name, known)}")
    return folder / f"{name}.yaml"


def _read(path: Path) -> Any:
    try:
        return OmegaConf.create(yaml.safe_load(path.read_text()) or {})
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def _override(word: str) -> Any:
    key, sign, _ = word.partition("=")
    if not sign or not key:
        raise ConfigError(f"{word!r}: an override is key=value, such as trainer.max_epochs=2")
    if key in FOLDERS:
        raise ConfigError(f"{word}: it is no key to set; {FOLDERS[key]}")
    try:
        return OmegaConf.from_dotlist([word])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{word!r}: the value cannot be read: {' '.join(str(error).split())}") from error


def _merge(base: Any, layer: Any, *, origin: str) -> Any:
    given = flatten(OmegaConf.to_container(layer))  # type: ignore[arg-type]
    for key, value in given.items():
        _known_key(key, origin=origin, value=value)
    try:
        return OmegaConf.merge(base, layer)
    except OmegaConfBaseException as error:
        named = getattr(error, "full_key", None)
        if named is None:  # what is wrong inside a tuple comes without the key
            raise ConfigError(_tuple_refusal(given, origin=origin)) from error
        reason = str(error).split("\n")[0].split(", expected one of")[0]
        if "is not a ListConfig" in reason:
            reason = f"{given.get(str(named))} is no list; write [{given.get(str(named))}]"
        raise ConfigError(f"{named}: {reason} (in {origin}){_choices(str(named), layer)}") from error


def _tuple_refusal(given: dict[str, Any], *, origin: str) -> str:
    """What to say of the first value that is not the tuple of numbers that its key takes."""
    for key, value in given.items():
        wanted = len(get_args(_type_of(key)))
        numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
        if isinstance(value, list) and wanted > 1 and not (numbers and len(value) == wanted):
            return f"{key}: {value} is not {wanted} numbers (in {origin})"
    return f"configuration: a value has another type than its key (in {origin})"


def _known_key(key: str, *, origin: str, value: Any) -> None:
    node: Any = Experiment
    seen: list[str] = []
    for part in key.split("."):
        if not is_dataclass(node):
            return  # inside a dict such as image.inits
        types = {item.name: item.type for item in fields(node)}
        if part not in types:
            where = ".".join(seen) or "the experiment"
            raise ConfigError(f"{key}: {where} has no key {part!r} (in {origin}); {nearest(part, sorted(types))}")
        node = types[part]
        seen.append(part)
    if is_dataclass(node) and value is not None:
        raise ConfigError(f"{key}: {value!r} given for a group (in {origin}); choose one of its keys, such as {key}.{fields(node)[0].name}")


def _choices(key: str, layer: Any) -> str:
    kind = _type_of(key)
    literals = [choice for option in (kind, *get_args(kind)) for choice in get_args(option) if isinstance(choice, str)]
    return f"; {nearest(str(OmegaConf.select(layer, key)), literals)}" if literals else ""


def _type_of(key: str) -> Any:
    """What the schema says that a key takes; None inside a dict such as image.inits."""
    node: Any = Experiment
    for part in key.split("."):
        node = {item.name: item.type for item in fields(node)}.get(part) if is_dataclass(node) else None
    return node
