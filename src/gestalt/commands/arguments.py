"""Parser of the command line, and the table of commands.  Nothing heavy is imported."""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

KEYS = "key=value: any key of the configuration, such as trainer.max_epochs=2 data.root=DIR seed=1 resume=last"
EVAL_KEYS = (
    "key=value: any key of the configuration that scoring reads, such as evaluation.benchmarks=[pascal_voc] benchmark_root=DIR "
    "evaluation.limit=100"
)
SCALE = "one of `gestalt list scales`, or the path of a YAML file of yours (default: %(default)s)"
VALUE_KINDS = "index (class indices), reduce_zero_label (one more, 0 is no class), truth (as in the benchmark's masks), voc_colours (RGB)"
MODEL = (
    "a checkpoint, a run's folder, an experiment's name for its newest run, an exported folder or its name on the hub, "
    "or another model as KIND:NAME, such as open_clip:FOLDER (docs/evaluation.md)"
)
SEGMENTED, GROUPED = "_segmented.png", "_grouped.png"
"""Endings of the name of a single picture's result, beside the picture."""

MOVED = {"sweep": "gestalt eval CKPT --sizes 224,336", "calibrate": "gestalt eval CKPT --calibrate pascal_voc"}
"""Commands of earlier versions, and what replaces them."""

PRINTING = ("vocabulary", "compare", "report", "list")
"""Commands that read and print: a reader that takes no more of their output is no error."""


def parse(words: list[str] | None) -> argparse.Namespace:
    """Parse the words of a command line, or those of this process.

    Help and usage errors end the process, as argparse does.

    Returns:
        The flags; ``command``, a key of COMMANDS; ``overrides``, the key=value words; ``words``, all of them.
    """
    parser = argparse.ArgumentParser(prog="gestalt", description="Perceptual grouping in contrastive vision-language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, row in COMMANDS.items():
        command = commands.add_parser(name, help=row.help, epilog=row.keys, allow_abbrev=False)
        command.set_defaults(command=name)
        for tool in row.flags(command) or [command]:
            tool.add_argument("--debug", action="store_true", help="show the traceback of an error")
            if tool.epilog:
                tool.usage = f"{tool.format_usage().removeprefix('usage: ').rstrip()} [key=value ...]"
    given = sys.argv[1:] if words is None else words
    if given and given[0] in MOVED:
        parser.error(f"{given[0]} is part of eval now: {MOVED[given[0]]}")
    arguments, rest = parser.parse_known_args(given)  # flags and key=value words may be mixed
    flags = [word for word in rest if word.startswith("-")]
    if flags:
        parser.error(f"{arguments.command} has no {' '.join(flags)}; gestalt {arguments.command} --help lists its flags")
    if rest and COMMANDS[arguments.command].keys is None and arguments.command != "data":
        parser.error(f"{arguments.command} takes no key=value and no further word: leave out {' '.join(rest)}")
    arguments.overrides, arguments.words = rest, given
    return arguments


def _count(word: str) -> int:
    """Parse an integer above 0."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {word!r}")
    return int(word)


def _train_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", help="one of `gestalt list experiments`, or the path of a YAML file of yours")
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument("--plan", action="store_true", help="take a few steps, print the run's estimated speed, memory and time, and stop")


def _features_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", help="one of `gestalt list experiments`, or the path of a YAML file of yours")
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument("--to", metavar="DIR", required=True, help="folder to make, or to go on with; train with data.features=DIR")
    formats = "number format of the files (default: %(default)s, exact)"
    command.add_argument("--dtype", choices=("float32", "float16"), default="float32", help=formats)
    command.add_argument("--check", action="store_true", help="write nothing: say whether DIR is complete and that of this run")


def _pretrain_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--init", choices=("dino", "supervised"), help="self-distillation, or classification by labels")
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument("--config", help="instead of both: the config.yaml of a run, to make what it starts from")


def _eval_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("target", help=MODEL)
    command.add_argument("--sizes", metavar="N,N", help="score at each of these sizes, pixels a side, and plot: 224,336,448")
    command.add_argument(
        "--calibrate", metavar="BENCHMARK", help="choose the background threshold of a benchmark that measures segmentation"
    )
    command.add_argument("--protocols", metavar="NAME,NAME", help="score segmentation under each of these protocols, or all, and plot")
    command.add_argument("--split", help="the images that --calibrate chooses on (default: train, or tune for scenes)")
    command.add_argument("--output", metavar="DIR", help="folder for the records (default: the run's)")
    command.add_argument("--predictions", metavar="DIR", help="write the predicted class maps to DIR/<benchmark>, for score and others")


def _score_flags(command: argparse.ArgumentParser) -> None:
    maps = "indexed or grey PNG (8 or 16 bits) or .npy, named by the benchmark's images"
    command.add_argument("folder", metavar="DIR", help=f"label maps: {maps}; or with a sub-folder of the benchmark's name")
    command.add_argument("--bench", required=True, metavar="BENCHMARK", help="one that measures segmentation, such as pascal_voc")
    command.add_argument("--name", help="of the system, for tables (default: the folder's)")
    command.add_argument(
        "--measure", choices=("segmentation", "grouping"), default="segmentation", help="class maps, or maps whose every value is a group"
    )
    command.add_argument("--values", default="index", metavar="KIND|FILE", help=f"{VALUE_KINDS}; or a JSON of value to class name, or null")
    command.add_argument("--suffix", default="", help="end of the files' stems behind the image's name, such as --suffix=_leftImg8bit")
    command.add_argument("--resize", choices=("nearest",), help="scale maps of another size than the truth (default: refuse them)")
    command.add_argument("--note", action="append", default=[], metavar="KEY=VALUE", help="a fact for the record, such as protocol=...")
    command.add_argument("--output", metavar="DIR", help="folder for the records (default: lightning_logs/predictions/<name>)")


def _reproduce_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", help="a published number, such as sclip/voc21 (default: list all)")
    command.add_argument("--model", metavar="KIND:NAME", help="the model in place of the published one's name, such as open_clip:FOLDER")
    command.add_argument("--output", metavar="DIR", help="folder for the record (default: the model's)")


def _report_flags(command: argparse.ArgumentParser) -> None:
    results = "a run's folder (and its evaluations), a result's JSON, or an experiment"
    command.add_argument("targets", nargs="+", metavar="RESULT", help=results)
    command.add_argument("--output", default="report.html", help="HTML to write (default: %(default)s)")


def _picture_flags(command: argparse.ArgumentParser, *, single: str) -> None:
    command.add_argument("paths", nargs="+", metavar="PATH", help="a picture, a folder of pictures, or a quoted pattern such as '**/*.jpg'")
    command.add_argument("--model", "--ckpt", dest="models", action="append", required=True, metavar="TARGET", help=f"{MODEL}; repeatable")
    command.add_argument("--protocol", metavar="NAME", help="how pictures are resized and compared (default: the model's)")
    command.add_argument("--to", metavar="DIR", help="folder for coloured pictures, maps and numbers, made if missing")
    command.add_argument("--html", metavar="FILE", help="page with pictures, masks, heat maps and areas, which opens from disk")
    command.add_argument("--npy", action="store_true", help="write the maps as NumPy arrays too")
    command.add_argument("--output", metavar="FILE", help=f"PNG of a single picture (default: <picture>{single} beside it)")


def _segment_flags(command: argparse.ArgumentParser) -> None:
    _picture_flags(command, single=SEGMENTED)
    command.add_argument("--labels", required=True, help='phrases, separated by commas: "dog, cat, grass"; one needs --threshold')
    command.add_argument("--reading", metavar="NAME", help="how the tower's last block is computed, such as naclip")
    command.add_argument("--threshold", type=float, metavar="X", help="least score of a labelled pixel, a cosine in most protocols")
    command.add_argument("--groups", type=_count, metavar="N", help="show so many groups on the page too")


def _group_flags(command: argparse.ArgumentParser) -> None:
    _picture_flags(command, single=GROUPED)
    command.add_argument("--groups", type=_count, default=8, metavar="N", help="largest number of groups (default: %(default)s)")


def _export_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("target", help=MODEL)
    command.add_argument("--to", metavar="DIR", help="folder to make: weights, configuration, tokenizer and model card of a run")
    command.add_argument(
        "--license", metavar="ID", help="licence of the weights for the card, such as apache-2.0 (default: none is stated)"
    )
    command.add_argument("--dataset", action="append", default=[], metavar="NAME", help="name on the hub of training data, for the card")
    command.add_argument("--onnx", metavar="FILE", help="ONNX file of the dense image encoder to write; needs the extra onnx")
    command.add_argument("--torch-export", metavar="FILE", help="the same for torch.export.load")
    command.add_argument(
        "--pixels",
        choices=("uint8", "float"),
        default="uint8",
        help="input of these files: uint8, or float in [0, 1] (default: %(default)s)",
    )


def _data_tools(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    keys = "key=value: as for training, such as data.root=DIR data.options.split=val data.caption=alt_text"
    tools = command.add_subparsers(required=True, metavar="TOOL", dest="tool")
    inspect = tools.add_parser(
        "inspect", help="look at every sample; write a manifest of what there is and what is bad", epilog=keys, allow_abbrev=False
    )
    inspect.add_argument("--to", metavar="FILE", help="JSON to write (default: lightning_logs/data/<source>_<digest>.json)")
    pack = tools.add_parser("pack", help="write a source into webdataset's tars, images as they are", epilog=keys, allow_abbrev=False)
    pack.add_argument("--to", metavar="DIR", required=True, help="folder to make")
    pack.add_argument("--shards", type=_count, metavar="N", required=True, help="number of tars")
    pack.add_argument("--limit", type=_count, metavar="M", help="the first M samples; the same as data.limit=M")
    show = tools.add_parser("show", help="draw a contact sheet of the first pairs that training sees", epilog=keys, allow_abbrev=False)
    show.add_argument("--to", metavar="FILE", help="PNG to write (default: lightning_logs/data/<source>_<digest>_<size>px.png)")
    show.add_argument("--count", type=_count, default=24, metavar="N", help="pairs (default: %(default)s)")
    show.add_argument("--columns", type=_count, default=6, metavar="N", help="pairs in a row (default: %(default)s)")
    for tool in (inspect, pack, show):
        tool.add_argument("source", help="tars, parquet, hub, table, coco_captions, flickr, scenes or mixture")
        tool.add_argument("--scale", default="cc12m", help="scale whose image size and other keys are used (default: %(default)s)")
    return [inspect, pack, show]


def _vocabulary_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--list", action="append", default=[], help="one list, such as sclip, or label_set for the sets' own phrases (default: all)"
    )
    command.add_argument("--label-set", action="append", default=[], help="one label set, such as coco_object_81 (default: all)")
    command.add_argument("--model", "--ckpt", dest="ckpt", help="a model as for eval, to list the near-ties of its text tower")
    command.add_argument("--cosine", type=float, default=0.98, help="smallest cosine of a near-tie (default: %(default)s)")


def _ablate_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "grid", nargs="?", help="one of `gestalt list grids`, or the path of a YAML file of yours (default: aggregation_by_init)"
    )
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument("--seeds", type=_count, default=1, metavar="N", help="runs of each cell (default: %(default)s)")
    command.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: 1; all at once on SLURM)")
    command.add_argument("--choose", action="append", default=[], metavar="KEY=a,b", help="values to try on the tuning split in each cell")
    command.add_argument("--dry-run", action="store_true", help="list the runs, those that are finished, and the time")
    command.add_argument("--allow-mixed", action="store_true", help="compare results of several commits, protocols or benchmarks")
    command.add_argument("--cluster", choices=("slurm", "local"), help="submit each run through submitit")
    command.add_argument("--submitit", action="append", default=[], metavar="KEY=value", help="a parameter of submitit's")


def _compare_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("targets", nargs="+", metavar="RESULT", help="a run's folder, a result's JSON, or an experiment's name")
    command.add_argument(
        "--metric", action="append", default=[], metavar="KEY", help="such as miou or scenes/miou (default: the headlines)"
    )
    command.add_argument("--allow-mixed", action="store_true", help="give results that were measured differently columns of their own")
    command.add_argument("--details", action="store_true", help="list every setting in which results were measured differently")
    for name, default in (("markdown", True), ("latex", False), ("csv", False)):
        help_text = f"write {name}{' (default)' if default else ''}"
        command.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="markdown", help=help_text)


def _list_flags(command: argparse.ArgumentParser) -> None:
    parts = ("experiments", "scales", "grids", "aggregations", "inits", "losses", "terms", "sources")
    kinds = (*parts, "image_sets", "benchmarks", "protocols")
    command.add_argument("kind", nargs="?", choices=(*kinds, "measures", "models"), help="one table (default: all)")


class Command(NamedTuple):
    """A command of the command line.

    Attributes:
        help: what it does.
        flags: adds its flags; returns the parsers of its tools, if it has any.
        keys: help for key=value words; None if it takes none, or if its tools describe them.
        module: the file in this folder whose ``run`` is called.
        check: the function of ``early`` that is called first, if any.
    """

    help: str
    flags: Callable[[argparse.ArgumentParser], list[argparse.ArgumentParser] | None]
    keys: str | None
    module: str
    check: str | None = None


MAP_KEYS = "key=value: of the benchmark's data, such as benchmark_root=DIR evaluation.split=val benchmark_subset=true"
CELLS = "key=value: any key of the configuration but seed and resume, for every cell, such as trainer.max_epochs=2 data.root=DIR"
LINT = "look for duplicates, stray blanks and near-ties in the phrases that name classes"
INSPECT = "inspect a source of pairs, pack it into tars, or show what the model sees of it"
COMMANDS = {
    "train": Command("train an experiment and score it after each epoch", _train_flags, KEYS, "train", "check_train"),
    "features": Command(
        "cache what frozen towers make of a run's training pairs", _features_flags, KEYS, "features", "check_features_command"
    ),
    "pretrain": Command("make an image init where none can be downloaded", _pretrain_flags, KEYS, "pretrain", "check_pretrain"),
    "ablate": Command("run a grid of experiments and compare its cells", _ablate_flags, CELLS, "ablate", "check_ablate"),
    "eval": Command(
        "score a checkpoint, sweep image sizes or protocols, or calibrate a threshold", _eval_flags, EVAL_KEYS, "evaluate", "check_eval"
    ),
    "reproduce": Command("score a published number again and print both", _reproduce_flags, KEYS, "reproduce", "check_reproduce"),
    "score": Command("score label maps of any system, without a model", _score_flags, MAP_KEYS, "score", "check_score"),
    "vocabulary": Command(LINT, _vocabulary_flags, None, "vocabulary", "check_vocabulary"),
    "compare": Command("put results side by side, with intervals over images", _compare_flags, None, "compare", "check_compare"),
    "report": Command("write results as one HTML page that opens from disk", _report_flags, None, "report", "check_report"),
    "segment": Command("give every pixel of pictures the label that it resembles most", _segment_flags, None, "segment", "check_segment"),
    "group": Command("divide pictures into groups of similar locations, without labels", _group_flags, None, "group", "check_group"),
    "export": Command(
        "write a trained model as a folder that loads anywhere, or as a graph", _export_flags, None, "export", "check_export"
    ),
    "data": Command(INSPECT, _data_tools, None, "data", "check_data"),
    "list": Command("print what can be chosen by name: experiments, benchmarks, protocols and so on", _list_flags, None, "listing"),
}
