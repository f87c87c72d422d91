"""Flags and checks of the commands that read models, results and names: eval, reproduce, score,
export, compare, report and list.
"""

import json
import re
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

from gestalt.commands.flags import KEYS, MODEL, Words, check_ending
from gestalt.commands.listing import KINDS
from gestalt.commands.named_files import check_target
from gestalt.config.check import check_scoring
from gestalt.config.check_launch import check_places
from gestalt.config.loading import load
from gestalt.measures.evaluation.benchmarks import BENCHMARKS, check_has_masks
from gestalt.measures.evaluation.published import published_number
from gestalt.measures.segmentation.presets import PRESETS
from gestalt.models.names import config_of, in_run
from gestalt.support.files import check_free
from gestalt.support.json_files import read_json
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError

VALUES = {
    "index": "class indices",
    "reduce_zero_label": "index + 1, 0 is no class",
    "truth": "as in the benchmark's masks",
    "voc_colours": "RGB",
}
"""Kinds of values of label maps -> what they are."""

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""Packages that ``--onnx`` needs: the model, its writer, and the runtime that checks what was
written.
"""

SCORE_KEYS = (
    "evaluation.split=",
    "evaluation.limit=",
    "evaluation.batch_size=",
    "benchmark_root=",
    "benchmark_subset=",
    "data.root=",
    "data.recipe=",
    "data.workers=",
    "trainer.enable_progress_bar=",
)
"""Prefixes of the overrides that scoring label maps reads."""

_MAPS = "indexed or grey PNG (8 or 16 bits) or .npy, named by the benchmark's images"
_KINDS = ", ".join(f"{kind} ({meaning})" for kind, meaning in VALUES.items())

WORDS = {
    "eval": Words(
        {
            "target": MODEL,
            "--sizes N,N": "score at each of these sizes, pixels a side, and plot: 224,336,448",
            "--calibrate BENCHMARK": "choose the background threshold of a benchmark with masks",
            "--protocols NAME,NAME": "score segmentation under each of these, or all, and plot",
            "--split SPLIT": "images for --calibrate to choose on (default: train; scenes: tune)",
            "--output DIR": "folder for the records (default: the run's)",
            "--predictions DIR": "write the class maps to DIR/<benchmark>, for score or others",
        },
        "benchmarks, by name or by the path of a YAML file, and key=value: any key of the "
        "configuration that scoring reads, such as "
        "evaluation.benchmarks=[pascal_voc] benchmark_root=DIR evaluation.limit=100",
    ),
    "reproduce": Words(
        {
            "name": {
                "nargs": "?",
                "help": "a published number, such as sclip/voc21 (default: list all)",
            },
            "--model KIND:NAME": "a model in place of the published one: open_clip:FOLDER",
            "--output DIR": "folder for the record (default: the model's)",
        },
        KEYS,
    ),
    "score": Words(
        {
            "folder DIR": f"label maps: {_MAPS}; or with a sub-folder of the benchmark's name",
            "--bench BENCHMARK": {
                "required": True,
                "help": "one that measures segmentation, such as pascal_voc or ./mine.yaml",
            },
            "--name NAME": "name of the system in tables (default: the folder's)",
            "--measure": {
                "choices": ("segmentation", "grouping"),
                "default": "segmentation",
                "help": "class maps, or maps whose every value is a group",
            },
            "--values KIND|FILE": {
                "default": "index",
                "help": f"{_KINDS}; or a JSON of value to class name or null",
            },
            "--suffix SUFFIX": {
                "default": "",
                "help": "what follows the image's name in the files' names: --suffix=_leftImg8bit",
            },
            "--resize": {
                "choices": ("nearest",),
                "help": "scale maps of another size than the truth (default: refuse them)",
            },
            "--note KEY=VALUE ...": "a fact for the record, such as protocol=...",
            "--output DIR": "folder for the records (default: lightning_logs/predictions/<name>)",
        },
        "key=value: of the benchmark's data, such as benchmark_root=DIR evaluation.split=val "
        "benchmark_subset=true",
    ),
    "export": Words(
        {
            "target": MODEL,
            "--to DIR": "folder to make: weights, configuration, tokenizer and model card of a run",
            "--license ID": "licence of the weights, such as apache-2.0 (default: none stated)",
            "--dataset NAME ...": "name on the hub of training data, for the card",
            "--onnx FILE": "ONNX file of the dense image encoder to write; needs the extra onnx",
            "--torch-export FILE": "file of the same encoder for torch.export.load",
            "--pixels": {
                "choices": ("uint8", "float"),
                "default": "uint8",
                "help": "input of these files: uint8, or float in [0, 1] (default: %(default)s)",
            },
        }
    ),
    "compare": Words(
        {
            "targets RESULT ...": "a run's or a grid's folder, a result's JSON, or an experiment",
            "--metric KEY ...": "such as miou or scenes/miou (default: the headlines)",
            "--allow-mixed": "give results that were measured differently columns of their own",
            "--details": "list every setting in which results were measured differently",
            **{
                f"--{name}": {
                    "dest": "format",
                    "action": "store_const",
                    "const": name,
                    "default": "markdown",
                    "help": "write %(const)s (default: %(default)s)",
                }
                for name in ("markdown", "latex", "csv")
            },
        }
    ),
    "report": Words(
        {
            "targets RESULT ...": "a run's folder (with its evaluations), a grid's, a JSON, a name",
            "--output OUTPUT": ("HTML to write", "report.html"),
        }
    ),
    "list": Words(
        {"kind": {"nargs": "?", "choices": tuple(KINDS), "help": "one table (default: all)"}}
    ),
}


def check_eval(arguments: Namespace) -> None:
    """Read ``sizes`` and ``protocols``, turn bare names of benchmarks and ``--calibrate`` into
    ``overrides``, and check the run's configuration.
    """
    sizes = arguments.sizes
    protocols = arguments.protocols
    benchmark = arguments.calibrate
    named = [word for word in arguments.overrides if "=" not in word and word in BENCHMARKS]
    if named:
        words = [word for word in arguments.overrides if word not in named]
        if benchmark is not None or any(
            word.startswith("evaluation.benchmarks=") for word in words
        ):
            raise ConfigError(f"eval {named[0]}: benchmarks are named twice; name all in one place")
        arguments.overrides = [*words, f"evaluation.benchmarks={json.dumps(named)}"]
    several = [flag for flag in (sizes, protocols, benchmark) if flag is not None]
    if len(several) > 1:
        raise ConfigError(
            "eval: --sizes, --protocols and --calibrate are different evaluations; give one"
        )
    if several and arguments.predictions is not None:
        raise ConfigError(
            "eval: --predictions writes the maps of one evaluation; leave out --sizes, --protocols "
            "and --calibrate"
        )
    if arguments.split is not None and benchmark is None:
        raise ConfigError(
            f"--split {arguments.split}: needs --calibrate; to score another split write "
            f"evaluation.split={arguments.split}"
        )
    if sizes is not None:
        sides = [int(word) if word.strip().isdecimal() else 0 for word in sizes.split(",")]
        if len(set(sides)) < max(2, len(sides)) or min(sides) < 1:
            raise ConfigError(
                f'--sizes "{sizes}": name two or more different sizes in pixels, separated by '
                "commas, such as 224,448"
            )
        arguments.sizes = sorted(sides)
    if protocols is not None:
        arguments.protocols = _protocols(protocols)
    if benchmark is not None:
        check_has_masks(benchmark)
        arguments.overrides = [
            "evaluation.calibration=null",
            *arguments.overrides,
            f"evaluation.benchmarks={json.dumps([benchmark])}",
        ]
    checkpoint = check_target(arguments.target)
    if checkpoint is not None and in_run(checkpoint):
        check_scoring(config_of(checkpoint, overrides=tuple(arguments.overrides)))


def _protocols(text: str) -> list[str]:
    """Return the names of the protocols of segmentation, each once."""
    if text == "all":
        return [name for name in PRESETS if PRESETS[name].protocol.name == name]
    names = [word.strip() for word in text.split(",")]
    for name in names:
        if name not in PRESETS:
            raise ConfigError(
                f"--protocols {text}: {name!r} is unknown; {nearest(name, list(PRESETS))}, or all"
            )
    return list(dict.fromkeys(names))


def check_reproduce(arguments: Namespace) -> None:
    """Check the name, that key=value words come with one, and that they leave its settings as they
    are.
    """
    words = [word for word in arguments.overrides if "=" not in word]
    if words or (arguments.name is not None and "=" in arguments.name):
        raise ConfigError(
            f"reproduce: {' '.join(words) or arguments.name}: name one published number, then "
            "key=value words"
        )
    if arguments.name is not None:
        published_number(arguments.name).check(arguments.overrides)


def check_score(arguments: Namespace) -> None:
    """Load ``config``; read ``values`` and ``notes``; store the folder of the maps as ``maps``."""
    benchmark = arguments.bench
    measure = arguments.measure
    values = arguments.values
    check_has_masks(benchmark, option="--bench", measure=measure)
    if measure == "grouping" and values != "index":
        raise ConfigError(
            f"--values {values}: each value of a map is a group under --measure grouping; leave it "
            "out"
        )
    for word in arguments.overrides:
        if not word.startswith(SCORE_KEYS):
            raise ConfigError(
                f"{word}: scoring label maps does not read it; leave it out (read: "
                f"{', '.join(SCORE_KEYS)})"
            )
    last = f"evaluation.benchmarks={json.dumps([benchmark])}"
    words = ["data.source=scenes", *arguments.overrides, last]
    arguments.config = load(None, scale=None, overrides=words)
    check_places(arguments.config)
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name the one that holds the label maps")
    inner = folder / BENCHMARKS[benchmark].name
    arguments.maps = inner if inner.is_dir() else folder
    if measure == "grouping":
        arguments.values = "groups"
    elif values not in VALUES:
        arguments.values = _values(Path(values))
    arguments.notes = {}
    for note in arguments.note:
        key, sign, value = note.partition("=")
        if not key or not sign:
            raise ConfigError(f"--note {note}: a note is key=value, such as protocol=mmseg-448")
        arguments.notes[key] = value


def _values(path: Path) -> dict[int, str | None]:
    """Read the class of each value, by name; None for no class."""
    if not path.is_file():
        raise ConfigError(
            f"--values {path}: no such file; choose {', '.join(VALUES)}, or a JSON of value to "
            "class name"
        )
    try:
        content = read_json(path, "values")
        values = {int(value): name for value, name in content.items()}
        if len(values) < len(content):
            raise ValueError("a value is given twice")
    except ValueError as error:
        raise ConfigError(
            f'--values {path}: not JSON such as {{"0": "background", "255": null}} ({error})'
        ) from error
    for value, name in values.items():
        if not 0 <= value < 2**16:
            raise ConfigError(
                f"--values {path}: {value}: {json.dumps(name)}; a value is 0 to 65535"
            )
    return values


def check_export(arguments: Namespace) -> None:
    """Check what is to be written, and the configuration of the run."""
    to = arguments.to
    license = arguments.license
    onnx = arguments.onnx
    if to is None and onnx is None and arguments.torch_export is None:
        raise ConfigError(
            "export: name what to write: --to DIR, --onnx FILE or --torch-export FILE"
        )
    if to is None and (license is not None or arguments.dataset):
        raise ConfigError("export: --license and --dataset are for the model card; give --to DIR")
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license):
        raise ConfigError(
            f"--license {license}: write the identifier of a licence, such as apache-2.0, mit or "
            "cc-by-nc-4.0"
        )
    check_ending("--onnx", onnx, ".onnx")
    check_ending("--torch-export", arguments.torch_export, ".pt2")
    missing = [name for name in ONNX if onnx is not None and find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--onnx: needs {', '.join(missing)}; install the extra: pip install "
            "'gestalt-grouping[onnx]'"
        )
    checkpoint = check_target(arguments.target)
    if to is not None:
        if checkpoint is None:
            raise ConfigError(
                f"{arguments.target}: --to is for runs of Gestalt; copy an exported folder, and "
                "publish other models by their library"
            )
        check_free(Path(to), option="--to")
