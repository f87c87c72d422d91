"""Load a configuration: schema <- scale <- experiment <- command line, or the saved one of a
run.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_origin

from omegaconf import OmegaConf

from gestalt.config.check import check
from gestalt.config.schema import DEFAULTS, Experiment, to_plain
from gestalt.config.start import folder_of, keys_of, read_start, refuse_misfit
from gestalt.data_modules.keys import Data
from gestalt.losses.keys import Loss
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.support.keys import Keys, flatten, unflatten
from gestalt.support.names import is_path, nearest, stem
from gestalt.support.plugins import code_complaint, find_code, find_codes
from gestalt.support.typed import ConfigError, convert, fields_below, read_keys, read_values

ALL_IMAGES = "evaluation.limit=null"
"""Override put before the command line of an evaluation: it scores all images, even if training
scored a part after each epoch.
"""

FOLDERS = {
    "name": "name the experiment after `gestalt train`",
    "scale": "a saved run keeps its scale; for a new run choose --scale",
}
"""Keys that name a run's folder -> how to choose them; only a run's config.yaml may set them."""


EXPERIMENTS = Path(str(resources.files("gestalt"))) / "experiments"
LOGS = Path("lightning_logs")  # under the working directory


RESERVED = ("ablations", "data", "pretrained", "zoo")
"""Folders of ``LOGS`` that are not an experiment's."""

LIMITS = ("data.limit", "pretraining.limit")
"""Keys that read the first samples only."""

REMOVED = (
    "data.cache_gib",
    "trainer.fast_dev_run",
    "trainer.num_sanity_val_steps",
    "pretraining.",
    "loss.self_distillation_",
    "loss.text_conditioned_",
)
"""Removed keys, or prefixes of them: those that a saved configuration has and the schema lacks are
ignored.
"""


def load(
    name: str | None,
    *,
    scale: str | None,
    overrides: Sequence[str] = (),
) -> Experiment:
    """Merge schema <- scale <- experiment <- command line, and check the whole.

    Args:
        name: experiment, the stem of a YAML in ``EXPERIMENTS`` or the path of another; None for a
            scale alone.
        scale: the stem of a YAML in its folder ``scales`` or the path of another; None for the
            schema alone.
        overrides: ``key.sub=value`` words.

    Raises:
        ConfigError: an unknown name or key, a wrong type or value, or a combination that cannot
            run.
    """
    files = [] if scale is None else [find_yaml(EXPERIMENTS / "scales", scale, kind="--scale")]
    files += [] if name is None else [find_yaml(EXPERIMENTS, name, kind="experiment")]
    label = stem(name or "")
    if label in RESERVED:
        raise ConfigError(
            f"experiment {name}: its runs would lie among other files, in {LOGS / label}; rename "
            f"the file, such as my_{files[-1].name}"
        )
    layers = [(path.name, read_keys(path)) for path in files]
    for origin, layer in layers:
        if not layer:
            raise ConfigError(
                f"{origin}: sets no key; write those that differ from the defaults, such as image: "
                f"{{aggregation: max}}"
            )
    layers += _command_line(overrides)
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


def code_of(config: Experiment) -> dict[str, str]:
    """Return the ``key=value`` words by which a configuration names ``python:`` code, each with
    the code's name.
    """
    return find_codes([f"{key}={value}" for key, value in flatten(to_plain(config)).items()])


def refuse_code(code: Iterable[str], words: Sequence[str], *, origin: str) -> None:
    """Refuse code of one's own that a file of others names, unless words of the user name it too.

    Args:
        code: the words of ``code_of`` of the file's configuration.
        words: those of the user.
        origin: the file.

    Raises:
        ConfigError: the message says which words trust the code.
    """
    keys = (flatten(_override(word)) for word in words)
    given = {f"{key}={value}" for layer in keys for key, value in layer.items()}
    if missing := [word for word in code if word not in given]:
        raise ConfigError(
            f"{missing[0]}: {origin} names code, which would be run; if you trust it, add "
            f"{shlex.join(missing)} to the command, or to overrides of gestalt.load"
        )


PLACES = (
    "benchmark_root",
    "data.root",
    "data.options",
    "data.mixture",
    "data.captions.root",
    "data.manifest",
    "data.include",
    "data.cache",
    "evaluation.benchmarks",
    "evaluation.calibration",
    "evaluation.proxy",
    "evaluation.unlabelled",
)
"""Prefixes of the keys that name files, folders, addresses or a second model, which scoring or
``load_from_checkpoint`` opens.
"""


@dataclass(frozen=True)
class Places:
    """The places that only a file from elsewhere names: they are not opened.

    Attributes:
        origin: the file.
        words: ``key=value`` for each key of a place that the user has not named again, as the shell
            takes it; URLs are without secrets.
    """

    origin: str = ""
    words: Mapping[str, str] = field(default_factory=dict)

    def refuse(self, *prefixes: str) -> None:
        """Refuse to open the places whose keys begin with one of the prefixes.

        Raises:
            ConfigError: there are some; the message has the words that name them.
        """
        found = [word for key, word in self.words.items() if key.startswith(prefixes)]
        if found:
            raise ConfigError(
                f"{' '.join(found)}: {self.origin} names what would be opened here; if you trust "
                "it, add these words to a command that takes key=value, or to overrides in Python; "
                "to open something else, give these keys other values"
            )


TRUSTED = Places()
"""No places: all that the user's own configuration names may be opened."""


def places_of(config: Experiment, words: Sequence[str], *, origin: str) -> Places:
    """Return the places that the configuration of a file from elsewhere names, and the user's words
    do not name again.

    Raises:
        ConfigError: it names code, or a calibration, which every protocol would read.
    """
    refuse_code(code_of(config), words, origin=origin)
    named = _named(words)
    values = {
        key: value
        for key, value in flatten(to_plain(config)).items()
        if key.startswith(PLACES) and key not in named and value != DEFAULTS.get(key)
    }
    if not any(map(is_path, config.evaluation.benchmarks)):
        values.pop("evaluation.benchmarks", None)
    places = Places(
        origin,
        {
            key: shlex.quote(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
            for key, value in values.items()
        },
    )
    if config.evaluation.calibration is not None:
        places.refuse("evaluation.calibration", "evaluation.benchmarks")
    return places


def _following(layers: list[tuple[str, Keys]], *, place: str) -> Keys:
    """Return the keys, flat, that follow the weights of ``start``.

    A resumed run does not read these weights again, so its saved keys are taken.  ``place`` is the
    folder of the experiment's runs at this scale, below the logs.
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


def load_saved(path: Path, *, overrides: Sequence[str] = ()) -> Experiment:
    """Read the resolved ``config.yaml`` of a run, with further overrides; its loss and
    benchmarks may be of packages that are not installed any more.

    Raises:
        ConfigError: the file is missing or does not fit the schema.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; a run's folder holds config.yaml beside checkpoints/"
        )
    return load_mapping(read_keys(path), origin=path, overrides=overrides)


def load_mapping(content: Keys, *, origin: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Check a resolved configuration, a mapping that ``schema.to_plain`` gives, of a run whose
    loss and benchmarks may be of packages that are not installed any more; ``origin`` is the file
    it is from.

    Raises:
        ConfigError: it does not fit the schema.
    """
    if any("." in str(name) for name in content):
        raise ConfigError(
            f"{origin}: not a saved configuration; its groups of keys are mappings, such as image: "
            f"{{init: random}}"
        )
    config = merge([(str(origin), _without_removed_keys(content)), *_command_line(overrides)])
    scored, named = config.evaluation, _named(overrides)
    # the packages of its loss and its benchmarks and the files that it names may be gone, and a
    # stranger may name any: they are checked where they are opened
    if "evaluation.benchmarks" not in named:
        installed = [name for name in scored.benchmarks if name in {*BENCHMARKS}]
        scored = replace(scored, benchmarks=installed)
    if "evaluation.calibration" not in named:
        scored = replace(scored, calibration=None)
    parts = {
        "loss": Loss(),
        "evaluation": _without_code(scored, "reading"),
        "image": _without_code(config.image, "aggregation"),
        "text": _without_code(config.text, "aggregation"),
    }
    try:
        check(replace(config, **parts))
    except ConfigError as error:
        if overrides:
            raise
        raise ConfigError(f"{error} (in {origin})") from error
    return config


def _without_code(group: Any, key: str) -> Any:
    """Return a group of keys with the default of a key that names code: a check would import the
    code before it is known whether the user trusts the file.
    """
    named = find_code(f"{key}={getattr(group, key)}")
    return replace(group, **{key: getattr(type(group), key)}) if named else group


def find_yaml(folder: Path, name: str, *, kind: str) -> Path:
    """Return the file of an experiment, a scale or a grid.

    Args:
        folder: folder of the shipped files.
        name: the stem of a shipped file, or the path of another, relative to the working directory.
        kind: kind of the word, for messages: experiment, --scale or grid.

    Raises:
        ConfigError: no such file, and the message names the nearest; or a name that no folder can
            have.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if not is_path(name):
        if name not in known:
            hint = nearest(name, known)
            if Path(f"{name}.yaml").is_file():
                hint = f"for your own file write ./{name}.yaml; {hint}"
            raise ConfigError(f"{kind} {name}: no {folder.name}/{name}.yaml; {hint}")
        return folder / f"{name}.yaml"
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"{kind} {name}: {path.absolute()}: not found; give the path of a YAML file, or choose "
            f"one of {', '.join(known)}"
        )
    if path.stem.startswith(".") or not path.stem.isprintable():
        raise ConfigError(
            f"{kind} {name}: a folder for its runs cannot be called {path.stem!r}; rename the file"
        )
    return path


def _override(word: str) -> Keys:
    """Read a word of the command line."""
    key, sign, value = word.partition("=")
    if not sign or not key:
        hint = f"{word!r}: an override is key=value, such as trainer.max_epochs=2"
        if word in [path.stem for path in (EXPERIMENTS / "scales").glob("*.yaml")]:
            hint += f"; for the scale write --scale {word}"
        raise ConfigError(hint)
    if key.isupper():
        raise ConfigError(
            f"{word!r}: {key} is not a key but may be a variable of make, which stands outside "
            "ARGS; see gestalt --help"
        )
    if key in FOLDERS:
        raise ConfigError(f"{word}: not a key to set; {FOLDERS[key]}")
    try:
        return unflatten({key: read_values(value)})
    except ValueError as error:
        raise ConfigError(f"{word!r}: the value cannot be read: {error}") from error


def _command_line(words: Sequence[str]) -> list[tuple[str, Keys]]:
    return [("command line", _override(word)) for word in words]


def _named(words: Sequence[str]) -> set[str]:
    """Return the keys that words of the command line set."""
    return {key for word in words for key in flatten(_override(word), keep_empty=True)}


def _without_removed_keys(layer: Keys) -> Keys:
    """Return a saved configuration without the keys of :data:`REMOVED` and without ``made``,
    which an init could once stand for.
    """
    known = {name for name, _ in fields_below(Experiment)}
    keys = flatten(layer, keep_empty=True)
    inits = [value for key, value in keys.items() if key.startswith("image.inits.")]
    removed = REMOVED if "made" not in inits else (*REMOVED, "image.inits.")
    return unflatten(
        {key: value for key, value in keys.items() if key in known or not key.startswith(removed)}
    )


def _lift_limits(scale: Keys, later: list[Keys]) -> Keys:
    """Return the layer that sets the scale's limits to null if later layers name other data, and an
    empty one otherwise.

    Data differ if ``data.source`` does, or ``data.root`` where the scale has one: a scale without a
    root leaves the place of the data to the user, and for ``scenes``, which are drawn without end,
    a limit is the length of an epoch.
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


MAPPINGS = tuple(name for name, item in fields_below(Experiment) if get_origin(item.type) is dict)
"""Keys whose value is a mapping."""


def merge(layers: list[tuple[str, Keys]]) -> Experiment:
    """Merge layers, such as files and the command line, into the schema; later ones win.

    A layer adds to a mapping such as ``image.inits``; an empty one clears it.

    Args:
        layers: the name of each layer's place, for messages, and its nested keys.

    Raises:
        ConfigError: an unknown key, a value of a wrong type, or an interpolation, which could read
            the environment.
    """
    merged: Any = OmegaConf.create()
    for origin, layer in layers:
        convert(layer, Experiment, origin=origin)  # alone, so that a message names its place
        if "${" in json.dumps(layer):
            raise ConfigError(
                f"interpolations such as ${{KEY}} are not supported (in {origin}); write the value"
            )
        for key, value in flatten(layer, keep_empty=True).items():
            if value == {} and key in MAPPINGS:
                OmegaConf.update(merged, key, {}, merge=False)
        merged = OmegaConf.unsafe_merge(merged, layer)
    plain = OmegaConf.to_container(merged)
    return convert(plain, Experiment, origin="all layers")
