"""``load``: schema <- scale <- experiment <- command line; and what of a configuration tells two runs apart."""

import hashlib
import json
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gestalt.config.check import check
from gestalt.config.schema import ConfigError, Experiment, nearest, uses_made

WHOLE = "evaluation.limit=null"
"""Before the command line: what training scored after each epoch may be a part of a set; what is measured afterwards is all of it."""

FOLDERS = {
    "name": "name the experiment: EXP=..., or behind train",
    "scale": "a saved run keeps its own, for a new one choose SCALE=..., or --scale",
}
"""Keys that say where a run lies, and what chooses them; a run's config.yaml has them, nothing else may."""

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
LOGS = Path("lightning_logs")  # under the working directory

# What does not change a result's expected value: where files lie, and how the work is spread and shown.
NOT_HASHED = (
    *("resume", "benchmark_root", "data.workers", "checkpoint_every_steps", "evaluation.pictures"),
    *("data.cache", "data.cache_gib", "data.max_bad_share"),
    *(f"trainer.{key}" for key in ("accelerator", "strategy", "devices", "num_nodes", "max_time", "log_every_n_steps", "profiler")),
    *(f"trainer.{key}" for key in ("enable_progress_bar", "enable_model_summary", "detect_anomaly", "num_sanity_val_steps")),
    "image.gradient_checkpointing",
    *(f"pretraining.{key}" for key in ("score_every_steps", "knn_bank", "knn_queries")),
)

# What decides the weights that ``pretrain`` makes; of ``pretraining``, every key that is not in NOT_HASHED.
DECIDES_MADE = (
    *(f"image.{key}" for key in ("backbone", "patch_size", "width", "depth", "heads", "stem")),
    *("data.source", "data.recipe", "data.window_shards", "trainer.precision"),
)
DINO_ONLY = tuple(
    f"pretraining.{key}"
    for key in (
        *("local_size", "local_area", "local_crops", "head_width", "bottleneck", "prototypes", "frozen_head_steps", "momentum"),
        *("student_temperature", "teacher_temperature", "warmup_teacher_temperature", "warmup_teacher_steps", "centre_momentum"),
    )
)


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


def to_yaml(config: Experiment) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(to_plain(config), sort_keys=False)


def to_plain(config: Experiment) -> dict[str, Any]:
    """The resolved configuration as dicts and lists."""
    plain = json.loads(json.dumps(asdict(config)))
    assert isinstance(plain, dict)
    return plain


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def hashed_keys(config: Experiment) -> dict[str, Any]:
    """The keys, flat, that two runs must share to be the same run.

    Of folders and files the last name counts, so that data may move: ``data.root``, those of a mixture, ``data.manifest`` and
    ``image.weights``.  How an init is made counts where the run starts from a made one.
    """
    flat = {key: value for key, value in flatten(to_plain(config)).items() if key not in NOT_HASHED and not key.startswith("pretraining.")}
    if uses_made(config):
        flat |= {key: value for key, value in made_keys(config).items() if key.startswith("pretraining.")}  # the others are there
    flat["data.mixture"] = [_named(part, "root", "manifest") for part in flat["data.mixture"]]
    return _named(flat, "data.root", "data.manifest", "image.weights")


def _named(keys: dict[str, Any], *paths: str) -> dict[str, Any]:
    """The keys, with the last name of each path in place of it."""
    return keys | {key: Path(keys[key]).name for key in paths if keys[key] is not None}


def made_keys(config: Experiment) -> dict[str, Any]:
    """The keys, flat, that decide the weights that ``pretrain`` makes for ``image.init``, beside what the data holds."""
    flat = flatten(to_plain(config))
    passed_over = (*NOT_HASHED, *(DINO_ONLY if config.image.init == "supervised" else ()))
    decides = [key for key in flat if key in DECIDES_MADE or key.startswith("pretraining.")]
    return {"init": config.image.init} | {key: flat[key] for key in decides if key not in passed_over}


def config_hash(config: Experiment) -> str:
    """12 hex digits over :func:`hashed_keys`."""
    return hashlib.sha256(json.dumps(hashed_keys(config), sort_keys=True).encode()).hexdigest()[:12]


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
