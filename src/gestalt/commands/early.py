"""Checks of a command's words before torch is imported, so that a typo stops in a fraction of a second.

The table in ``arguments`` names the check of a command.  Each stores what the words stand for in the namespace, such as
``arguments.config``, and raises a ConfigError that names the mistake and the fix.
"""

import json
import os
import re
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from gestalt.building.early import check_pairs
from gestalt.commands.flags import GROUPED, SEGMENTED
from gestalt.commands.named_files import check_records, check_run_files, check_target
from gestalt.commands.picture_words import check_outputs, labels_of
from gestalt.config.check_data import check_features, check_options
from gestalt.config.check_evaluation import check_has_masks
from gestalt.config.check_launch import check_nodes, check_places, check_training
from gestalt.config.loading import load, load_saved
from gestalt.config.schema import ConfigError, uses_made
from gestalt.evaluation.protocols import PARTITIONS, PRESETS, PROTOCOLS
from gestalt.evaluation.protocols.bottom_up import MOST_GROUPS
from gestalt.evaluation.published import published_number
from gestalt.features.key import check_cache
from gestalt.publishing.checks import check_free, check_onnx
from gestalt.support.names import nearest


def check_train(arguments: Namespace) -> None:
    """Load ``config``."""
    arguments.config = load(arguments.experiment, scale=arguments.scale, overrides=arguments.overrides)
    if not arguments.plan:  # which needs one process for any number of nodes
        check_nodes(arguments.config, os.environ)
    check_training(arguments.config)
    check_run_files(arguments.config)
    check_cache(arguments.config)


def check_features_command(arguments: Namespace) -> None:
    """Load ``config``, the configuration of the run whose features are cached."""
    arguments.config = load(arguments.experiment, scale=arguments.scale, overrides=[*arguments.overrides, "data.features=null"])
    check_features(arguments.config, name="the cache")
    check_training(arguments.config)
    check_run_files(arguments.config)


def check_pretrain(arguments: Namespace) -> None:
    """Load ``config``, the configuration of a run or of a scale."""
    if (arguments.init is None) == (arguments.config is None):
        raise ConfigError("pretrain: give --init dino or --init supervised, or the --config of a run, not both")
    if arguments.config is not None:
        config = load_saved(Path(arguments.config), overrides=arguments.overrides)
    else:
        words = [f"image.init={arguments.init}", f"image.inits.{arguments.init}=made", "evaluation.benchmarks=[]"]
        config = load(None, scale=arguments.scale, overrides=[*words, *arguments.overrides])
    if not uses_made(config):
        raise ConfigError(
            f"image.init={config.image.init}: this configuration does not start from pretrained weights of `gestalt pretrain`"
        )
    check_nodes(config, os.environ)
    check_options(config)
    check_pairs(config)
    arguments.config = config


def check_ablate(arguments: Namespace) -> None:
    """Read ``grid``; the namespace's grid may be an override that argparse took for a name."""
    from gestalt.studies.grid import read_grid  # the ledger below it imports torch

    words = [word for word in (arguments.grid, *arguments.overrides) if word]
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ConfigError(f"ablate: {' '.join(names)}: one grid at a time; overrides are key=value")
    overrides = tuple(word for word in words if "=" in word)
    name = (names or ["aggregation_by_init"])[0]
    arguments.grid = read_grid(name, scale=arguments.scale, overrides=overrides, choose=tuple(arguments.choose))


def check_eval(arguments: Namespace) -> None:
    """Read ``sizes``, and load the configuration of the run."""
    words = arguments.overrides
    if sum(flag is not None for flag in (arguments.sizes, arguments.calibrate, arguments.protocols)) > 1:
        raise ConfigError("eval: --sizes, --protocols and --calibrate are different evaluations; give one")
    if arguments.predictions is not None and (arguments.sizes or arguments.calibrate or arguments.protocols):
        raise ConfigError("eval: --predictions writes the maps of one evaluation; leave out --sizes, --protocols and --calibrate")
    if arguments.split is not None and arguments.calibrate is None:
        raise ConfigError(f"--split {arguments.split}: needs --calibrate; to score another split write evaluation.split={arguments.split}")
    if arguments.sizes is not None:
        arguments.sizes = _sizes(arguments.sizes)
    if arguments.protocols is not None:
        arguments.protocols = _protocols(arguments.protocols)
    if arguments.calibrate is not None:
        check_has_masks(arguments.calibrate)
        words = ["evaluation.calibration=null", *words, f"evaluation.benchmarks=[{arguments.calibrate}]"]
    run = check_target(arguments.target)
    if run is not None:
        load_saved(run / "config.yaml", overrides=words)


def _protocols(text: str) -> list[str]:
    """Return the names of the protocols of segmentation, each once."""
    if text == "all":
        return [name for name in PROTOCOLS if PRESETS[name].protocol.name == name]
    names = [word.strip() for word in text.split(",")]
    for name in names:
        if name not in PROTOCOLS:
            raise ConfigError(f"--protocols {text}: {name!r} is unknown; {nearest(name, list(PROTOCOLS))}, or all")
    return list(dict.fromkeys(names))


def _sizes(text: str) -> list[int]:
    """Return the sizes in ascending order, pixels."""
    sizes = [int(word) if word.strip().isdecimal() else 0 for word in text.split(",")]
    if len(set(sizes)) < max(2, len(sizes)) or min(sizes) < 1:
        raise ConfigError(f'--sizes "{text}": name two or more different sizes in pixels, separated by commas, such as 224,448')
    return sorted(sizes)


READ_BY_SCORE = (
    *("evaluation.split=", "evaluation.limit=", "evaluation.batch_size=", "benchmark_root=", "benchmark_subset="),
    *("data.root=", "data.recipe=", "data.workers=", "trainer.enable_progress_bar="),
)
"""Prefixes of the overrides that scoring label maps reads."""

VALUES = ("index", "reduce_zero_label", "truth", "voc_colours")


def check_score(arguments: Namespace) -> None:
    """Load ``config``; read ``values`` and ``notes``; store the folder of the maps as ``maps``."""
    check_has_masks(arguments.bench, option="--bench", measure=arguments.measure)
    if arguments.measure == "grouping" and arguments.values != "index":
        raise ConfigError(f"--values {arguments.values}: each value of a map is a group under --measure grouping; leave it out")
    for word in arguments.overrides:
        if not word.startswith(READ_BY_SCORE):
            raise ConfigError(f"{word}: scoring label maps does not read it; leave it out (read: {', '.join(READ_BY_SCORE)})")
    words = ["data.source=scenes", *arguments.overrides, f"evaluation.benchmarks=[{arguments.bench}]"]
    arguments.config = load(None, scale=None, overrides=words)
    check_places(arguments.config)
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name the one that holds the label maps")
    arguments.maps = folder / arguments.bench if (folder / arguments.bench).is_dir() else folder
    if arguments.measure == "grouping":
        arguments.values = "groups"
    elif arguments.values not in VALUES:
        arguments.values = _values(Path(arguments.values))
    pairs = [note.partition("=") for note in arguments.note]
    if not all(key and sign for key, sign, _ in pairs):
        raise ConfigError(f"--note {' '.join(arguments.note)}: a note is key=value, such as protocol=mmseg-448")
    arguments.notes = {key: value for key, _, value in pairs}


def _values(path: Path) -> dict[int, str | None]:
    """Read the class of each value, by name; None for no class."""
    if not path.is_file():
        raise ConfigError(f"--values {path}: no such file; choose {', '.join(VALUES)}, or a JSON of value to class name")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values = {int(value): name for value, name in content.items()}
    except (ValueError, AttributeError) as error:
        raise ConfigError(f'--values {path}: not JSON such as {{"0": "background", "255": null}} ({error})') from error
    for value, name in values.items():
        if not 0 <= value < 2**16 or not isinstance(name, str | None):
            raise ConfigError(f"--values {path}: {value}: {json.dumps(name)}; a value is 0 to 65535, its class a name or null")
    return values


def check_reproduce(arguments: Namespace) -> None:
    """Check the name, that key=value words come with one, and that they leave its settings as they are."""
    words = [word for word in arguments.overrides if "=" not in word]
    if words or (arguments.name is not None and "=" in arguments.name):
        raise ConfigError(f"reproduce: {' '.join(words) or arguments.name}: name one published number, then key=value words")
    if arguments.name is not None:
        published_number(arguments.name).check(arguments.overrides)


def check_vocabulary(arguments: Namespace) -> None:
    """Check the model, if one is named."""
    if arguments.ckpt is not None:
        check_target(arguments.ckpt)


def check_compare(arguments: Namespace) -> None:
    """Check the results."""
    check_records(arguments.targets, evaluations=False)


def check_report(arguments: Namespace) -> None:
    """Check the results."""
    check_records(arguments.targets, evaluations=True)


def check_segment(arguments: Namespace) -> None:
    """Read ``labels``, check the names, and choose the ``pictures`` and what is written."""
    if arguments.groups is not None and arguments.html is None:
        raise ConfigError(f"--groups {arguments.groups}: segment shows groups on the page of --html FILE; name one, or call gestalt group")
    arguments.labels = labels_of(arguments.labels, threshold=arguments.threshold)
    _check_known("--protocol", arguments.protocol, PROTOCOLS)
    check_outputs(arguments, kind="labels", single=SEGMENTED)


def check_group(arguments: Namespace) -> None:
    """Check the names, and choose the ``pictures`` and what is written."""
    if arguments.groups > MOST_GROUPS:
        raise ConfigError(f"--groups {arguments.groups}: choose 1 to {MOST_GROUPS}")
    _check_known("--protocol", arguments.protocol, PARTITIONS)
    check_outputs(arguments, kind="groups", single=GROUPED)


def _check_known(flag: str, name: str | None, known: Iterable[str]) -> None:
    if name is not None and name not in known:
        raise ConfigError(f"{flag} {name}: unknown; {nearest(name, list(known))}")


def check_export(arguments: Namespace) -> None:
    """Check what is to be written, and the configuration of the run."""
    target, to = arguments.target, arguments.to
    if to is None and arguments.onnx is None and arguments.torch_export is None:
        raise ConfigError("export: name what to write: --to DIR, --onnx FILE or --torch-export FILE")
    if to is None and (arguments.license is not None or arguments.dataset):
        raise ConfigError("export: --license and --dataset are for the model card; give --to DIR")
    if arguments.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", arguments.license):
        raise ConfigError(f"--license {arguments.license}: write the identifier of a licence, such as apache-2.0, mit or cc-by-nc-4.0")
    for flag, file, ending in (("--onnx", arguments.onnx, ".onnx"), ("--torch-export", arguments.torch_export, ".pt2")):
        if file is not None and Path(file).suffix != ending:
            raise ConfigError(f"{flag} {file}: name a file that ends in {ending}")
    if arguments.onnx is not None:
        check_onnx()
    run = check_target(target)
    if to is not None:
        if run is None:
            raise ConfigError(f"{target}: --to is for runs of Gestalt; copy an exported folder, and publish other models by their library")
        check_free(Path(to))
    if run is not None:
        load_saved(run / "config.yaml")


def check_data(arguments: Namespace) -> None:
    """Load ``config``, the configuration for training on the source."""
    limit = [] if getattr(arguments, "limit", None) is None else [f"data.limit={arguments.limit}"]
    words = [f"data.source={arguments.source}", "evaluation.benchmarks=[]", "image.init=random", *arguments.overrides, *limit]
    config = load(None, scale=arguments.scale, overrides=words)
    check_options(config)
    if arguments.tool != "inspect" or config.data.manifest is None:  # inspection refuses any manifest, missing or not
        check_places(config)
        check_pairs(config)
    arguments.config = config
