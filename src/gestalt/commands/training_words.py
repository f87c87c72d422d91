"""Flags and checks of the commands that train, or read the pairs of training: train, features,
pretrain, ablate and data.
"""

import os
from argparse import Namespace
from pathlib import Path

from gestalt.commands.flags import KEYS, Words
from gestalt.config.check import check_features as check_features_fit
from gestalt.config.check_launch import check_nodes
from gestalt.config.check_pretraining import check_pretraining
from gestalt.config.loading import LOGS, load
from gestalt.data_modules.keys import check_options
from gestalt.runs.experiment import check_pairs, check_run, experiment
from gestalt.support.names import stem
from gestalt.support.typed import ConfigError

_SCALE = {"--scale SCALE": ("one of `gestalt list scales`, or a YAML file of yours", "demo")}
_RUN = {
    "experiment": "one of `gestalt list experiments`, or the path of a YAML file of yours",
    **_SCALE,
}

WORDS = {
    "train": Words(
        {
            **_RUN,
            "--plan": "take a few steps, print the run's estimated speed, memory and time; stop",
        },
        KEYS,
    ),
    "features": Words(
        {
            **_RUN,
            "--to DIR": {
                "required": True,
                "help": "folder to make, or to complete; train with data.features=DIR",
            },
            "--dtype": {
                "choices": ("float32", "float16"),
                "default": "float32",
                "help": "number format of the files (default: %(default)s, exact)",
            },
            "--check": "write nothing; only check that DIR is complete and made for this run",
        },
        KEYS,
    ),
    "pretrain": Words(
        {
            "--init": {
                "choices": ("dino", "supervised"),
                "required": True,
                "help": "self-distillation, or classification by labels",
            },
            **_SCALE,
            "--to FILE": "default: lightning_logs/pretrained/SCALE/INIT.safetensors",
        },
        KEYS,
    ),
    "ablate": Words(
        {
            "grid": {
                "nargs": "?",
                "help": "of `gestalt list grids`, or your YAML (default: aggregation_by_init)",
            },
            **_SCALE,
            "--seeds N": ("runs of each cell", 1),
            "--jobs N": "runs at a time (default: 1; all at once on SLURM)",
            "--choose KEY=a,b ...": "values to try on the tuning split in each cell",
            "--dry-run": "list the runs, those that are finished, and the time",
            "--allow-mixed": "compare results of several commits, protocols or benchmarks",
            "--cluster": {
                "choices": ("slurm", "local"),
                "help": "submit each run through submitit",
            },
            "--submitit KEY=value ...": "a parameter for submitit",
        },
        "key=value: any key of the configuration but seed and resume, for every cell, such as "
        "trainer.max_epochs=2 data.root=DIR",
    ),
    "data": Words(
        {
            "source": "tars, parquet, hub, table, coco_captions, flickr, scenes or mixture",
            "--scale SCALE": ("scale whose image size and other keys are used", "cc12m"),
        },
        "key=value: as for training, such as data.root=DIR data.options.split=val "
        "data.caption=alt_text",
        {
            "inspect": (
                "read every sample, and write a manifest with counts and the bad samples",
                {"--to FILE": "JSON (default: lightning_logs/data/<source>_<digest>.json)"},
            ),
            "pack": (
                "write a source into webdataset's tars, image files unchanged",
                {
                    "--to DIR": {"required": True, "help": "folder to make"},
                    "--shards N": {"required": True, "help": "number of tars"},
                    "--limit N": "the first N samples; the same as data.limit=N",
                },
            ),
            "show": (
                "draw a contact sheet of the first pairs that training sees",
                {
                    "--to FILE": "PNG (default: lightning_logs/data/<source>_<digest>_<n>px.png)",
                    "--count N": ("number of pairs", 24),
                    "--columns N": ("pairs in a row", 6),
                },
            ),
        },
    ),
}


def check_train(arguments: Namespace) -> None:
    """Load ``config``."""
    arguments.config = experiment(arguments.experiment, *arguments.overrides, scale=arguments.scale)
    if not arguments.plan:  # which needs one process for any number of nodes
        check_nodes(arguments.config, os.environ)


def check_features(arguments: Namespace) -> None:
    """Load ``config``, the configuration of the run whose features are cached."""
    arguments.config = load(
        arguments.experiment,
        scale=arguments.scale,
        overrides=[*arguments.overrides, "data.features=null"],
    )
    check_features_fit(arguments.config, name="the cache")
    check_run(arguments.config)


def check_pretrain(arguments: Namespace) -> None:
    """Load ``config``, the configuration of a scale, and store the ``file`` to write."""
    words = [f"image.init={arguments.init}", "evaluation.benchmarks=[]", *arguments.overrides]
    config = load(None, scale=arguments.scale, overrides=words)
    check_pretraining(config, init=arguments.init)
    file = Path(
        arguments.to
        or LOGS / "pretrained" / stem(arguments.scale) / f"{arguments.init}.safetensors"
    )
    if file.suffix != ".safetensors":
        raise ConfigError(f"--to {file}: name a file that ends in .safetensors")
    if file.exists():
        raise ConfigError(f"{file} exists; choose another --to, or remove it")
    check_nodes(config, os.environ)
    check_options(config.data)
    check_pairs(config)
    arguments.config = config
    arguments.file = file


def check_ablate(arguments: Namespace) -> None:
    """Read ``grid``; the namespace's grid may be an override that argparse took for a name."""
    from gestalt.ablation.grid import (
        check_number,
        read_grid,  # the results below it import torch
    )

    words = [word for word in (arguments.grid, *arguments.overrides) if word]
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ConfigError(f"ablate: {' '.join(names)}: one grid at a time; overrides are key=value")
    overrides = tuple(word for word in words if "=" in word)
    name = (names or ["aggregation_by_init"])[0]
    arguments.grid = read_grid(
        name, scale=arguments.scale, overrides=overrides, choose=tuple(arguments.choose)
    )
    check_number((arguments.seeds, len(arguments.grid.cells)))


def check_data(arguments: Namespace) -> None:
    """Load ``config``, the configuration for training on the source."""
    words = [
        f"data.source={arguments.source}",
        "evaluation.benchmarks=[]",
        "image.init=random",
        *arguments.overrides,
    ]
    if getattr(arguments, "limit", None) is not None:
        words.append(f"data.limit={arguments.limit}")
    config = load(None, scale=arguments.scale, overrides=words)
    check_options(config.data)
    # inspection refuses any manifest, missing or not
    if arguments.tool != "inspect" or config.data.manifest is None:
        check_pairs(config)
    arguments.config = config
