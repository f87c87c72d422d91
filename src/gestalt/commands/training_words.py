"""Flags and checks of the commands that train, or read the pairs of training: train, features,
pretrain, ablate and data.
"""

import argparse
import os
from argparse import Namespace
from pathlib import Path

from gestalt.commands.flags import KEYS, SCALE, count
from gestalt.config.check_data import check_features as check_features_fit
from gestalt.config.check_data import check_options
from gestalt.config.check_launch import check_nodes, check_places, check_training
from gestalt.config.check_pretraining import check_pretraining
from gestalt.config.loading import LOGS, load, stem
from gestalt.config.schema import ConfigError, Experiment, is_file_of_weights
from gestalt.data_modules.corpora.file_checks import check_files
from gestalt.encoders.timm_names import check_backbone_name
from gestalt.features.key import check_cache
from gestalt.runs.resume import resolve_resume


def train_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``train``."""
    _run_flags(command)
    command.add_argument(
        "--plan",
        action="store_true",
        help="take a few steps, print the run's estimated speed, memory and time, and stop",
    )


def _run_flags(command: argparse.ArgumentParser) -> None:
    command.epilog = KEYS
    command.add_argument(
        "experiment", help="one of `gestalt list experiments`, or the path of a YAML file of yours"
    )
    command.add_argument("--scale", default="demo", help=SCALE)


def check_train(arguments: Namespace) -> None:
    """Load ``config``."""
    arguments.config = load(
        arguments.experiment, scale=arguments.scale, overrides=arguments.overrides
    )
    if not arguments.plan:  # which needs one process for any number of nodes
        check_nodes(arguments.config, os.environ)
    check_training(arguments.config)
    _check_run_files(arguments.config)
    check_cache(arguments.config)


def _check_run_files(config: Experiment) -> None:
    """Check the backbone's name and the files that training reads: pairs, weights, and the
    checkpoint to resume from.

    Raises:
        ValueError: one is missing, or contradicts the configuration.
    """
    check_places(config)
    check_backbone_name(config.image.backbone)
    resolve_resume(config)
    _check_pairs(config)


def features_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``features``."""
    _run_flags(command)
    command.add_argument(
        "--to",
        metavar="DIR",
        required=True,
        help="folder to make, or to complete; train with data.features=DIR",
    )
    formats = "number format of the files (default: %(default)s, exact)"
    command.add_argument("--dtype", choices=("float32", "float16"), default="float32", help=formats)
    command.add_argument(
        "--check",
        action="store_true",
        help="write nothing; only check that DIR is complete and made for this run",
    )


def check_features(arguments: Namespace) -> None:
    """Load ``config``, the configuration of the run whose features are cached."""
    arguments.config = load(
        arguments.experiment,
        scale=arguments.scale,
        overrides=[*arguments.overrides, "data.features=null"],
    )
    check_features_fit(arguments.config, name="the cache")
    check_training(arguments.config)
    _check_run_files(arguments.config)


def pretrain_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``pretrain``."""
    command.epilog = KEYS
    command.add_argument(
        "--init",
        choices=("dino", "supervised"),
        required=True,
        help="self-distillation, or classification by labels",
    )
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument(
        "--to",
        metavar="FILE",
        help="file to write (default: lightning_logs/pretrained/SCALE/INIT.safetensors)",
    )


def check_pretrain(arguments: Namespace) -> None:
    """Load ``config``, the configuration of a scale, and store the ``file`` to write."""
    words = [f"image.init={arguments.init}", "evaluation.benchmarks=[]", *arguments.overrides]
    config = load(None, scale=arguments.scale, overrides=words)
    check_pretraining(config, init=arguments.init)
    file = Path(
        arguments.to
        or LOGS / "pretrained" / stem(arguments.scale) / f"{arguments.init}.safetensors"
    )
    if not is_file_of_weights(file.name):
        raise ConfigError(f"--to {file}: name a file that ends in .safetensors")
    if file.exists():
        raise ConfigError(f"{file} exists; choose another --to, or remove it")
    check_nodes(config, os.environ)
    check_options(config)
    _check_pairs(config)
    arguments.config, arguments.file = config, file


def ablate_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``ablate``."""
    command.epilog = (
        "key=value: any key of the configuration but seed and resume, for every cell, such as "
        "trainer.max_epochs=2 data.root=DIR"
    )
    command.add_argument(
        "grid",
        nargs="?",
        help=(
            "one of `gestalt list grids`, or the path of a YAML file of yours (default: "
            "aggregation_by_init)"
        ),
    )
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument(
        "--seeds",
        type=count,
        default=1,
        metavar="N",
        help="runs of each cell (default: %(default)s)",
    )
    command.add_argument(
        "--jobs", type=count, metavar="N", help="runs at a time (default: 1; all at once on SLURM)"
    )
    command.add_argument(
        "--choose",
        action="append",
        default=[],
        metavar="KEY=a,b",
        help="values to try on the tuning split in each cell",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="list the runs, those that are finished, and the time",
    )
    command.add_argument(
        "--allow-mixed",
        action="store_true",
        help="compare results of several commits, protocols or benchmarks",
    )
    command.add_argument(
        "--cluster", choices=("slurm", "local"), help="submit each run through submitit"
    )
    command.add_argument(
        "--submitit",
        action="append",
        default=[],
        metavar="KEY=value",
        help="a parameter for submitit",
    )


def check_ablate(arguments: Namespace) -> None:
    """Read ``grid``; the namespace's grid may be an override that argparse took for a name."""
    from gestalt.ablation.grid import read_grid  # the results below it import torch

    words = [word for word in (arguments.grid, *arguments.overrides) if word]
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ConfigError(f"ablate: {' '.join(names)}: one grid at a time; overrides are key=value")
    overrides = tuple(word for word in words if "=" in word)
    name = (names or ["aggregation_by_init"])[0]
    arguments.grid = read_grid(
        name, scale=arguments.scale, overrides=overrides, choose=tuple(arguments.choose)
    )


def data_flags(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Add the tools of ``data``, and return their parsers."""
    keys = (
        "key=value: as for training, such as data.root=DIR data.options.split=val "
        "data.caption=alt_text"
    )
    tools = command.add_subparsers(required=True, metavar="TOOL", dest="tool")
    inspect = tools.add_parser(
        "inspect",
        help="read every sample, and write a manifest with counts and the bad samples",
        epilog=keys,
        allow_abbrev=False,
    )
    inspect.add_argument(
        "--to",
        metavar="FILE",
        help="JSON to write (default: lightning_logs/data/<source>_<digest>.json)",
    )
    pack = tools.add_parser(
        "pack",
        help="write a source into webdataset's tars, image files unchanged",
        epilog=keys,
        allow_abbrev=False,
    )
    pack.add_argument("--to", metavar="DIR", required=True, help="folder to make")
    pack.add_argument("--shards", type=count, metavar="N", required=True, help="number of tars")
    pack.add_argument(
        "--limit", type=count, metavar="M", help="the first M samples; the same as data.limit=M"
    )
    show = tools.add_parser(
        "show",
        help="draw a contact sheet of the first pairs that training sees",
        epilog=keys,
        allow_abbrev=False,
    )
    show.add_argument(
        "--to",
        metavar="FILE",
        help="PNG to write (default: lightning_logs/data/<source>_<digest>_<size>px.png)",
    )
    show.add_argument(
        "--count",
        type=count,
        default=24,
        metavar="N",
        help="number of pairs (default: %(default)s)",
    )
    show.add_argument(
        "--columns",
        type=count,
        default=6,
        metavar="N",
        help="pairs in a row (default: %(default)s)",
    )
    for tool in (inspect, pack, show):
        tool.add_argument(
            "source", help="tars, parquet, hub, table, coco_captions, flickr, scenes or mixture"
        )
        tool.add_argument(
            "--scale",
            default="cc12m",
            help="scale whose image size and other keys are used (default: %(default)s)",
        )
    return [inspect, pack, show]


def check_data(arguments: Namespace) -> None:
    """Load ``config``, the configuration for training on the source."""
    limit = [] if getattr(arguments, "limit", None) is None else [f"data.limit={arguments.limit}"]
    words = [
        f"data.source={arguments.source}",
        "evaluation.benchmarks=[]",
        "image.init=random",
        *arguments.overrides,
        *limit,
    ]
    config = load(None, scale=arguments.scale, overrides=words)
    check_options(config)
    # inspection refuses any manifest, missing or not
    if arguments.tool != "inspect" or config.data.manifest is None:
        check_places(config)
        _check_pairs(config)
    arguments.config = config


def _check_pairs(config: Experiment) -> None:
    """Check the files of ``data.source`` by their first or last bytes; those of a mixture's parts
    are checked when they are opened.
    """
    data = config.data
    check_files(data.source, root=data.root, caption=data.caption, options=data.options)
