"""What may be said on the command line.  Nothing heavy is imported."""

import argparse
import sys

WITHOUT_OVERRIDES = ("segment", "compare", "report", "vocabulary")
"""Commands that take no key=value words."""


def parse(words: list[str] | None) -> argparse.Namespace:
    """Words of the command line, or those of the process, as what is asked: ``call`` names the command, ``overrides`` are key=value words.

    Ends the process with help or a usage error, as argparse does.
    """
    parser = argparse.ArgumentParser(prog="gestalt", description="Perceptual grouping in contrastive vision-language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    overrides = "any key of the configuration, such as trainer.max_epochs=2 data.root=DIR seed=1 resume=last"

    train = commands.add_parser("train", help="train an experiment and score it after each epoch", epilog=f"key=value: {overrides}")
    train.add_argument("experiment", help="a file in experiments/, without .yaml")
    train.add_argument("--scale", default="demo", help="a file in experiments/scales/, without .yaml (default: %(default)s)")
    train.set_defaults(call="train")

    pretrain = commands.add_parser("pretrain", help="make an image init where none can be downloaded", epilog=f"key=value: {overrides}")
    pretrain.add_argument("--init", choices=("dino", "supervised"), help="self-distillation, or classification by labels")
    pretrain.add_argument("--scale", default="demo", help="a file in experiments/scales/, without .yaml (default: %(default)s)")
    pretrain.add_argument("--config", help="instead of both: the config.yaml of a run, to make what it starts from")
    pretrain.set_defaults(call="pretrain")

    every = "key=value: any key of the configuration but seed and resume, for every cell, such as trainer.max_epochs=2 data.root=DIR"
    ablation = commands.add_parser("ablate", help="run a grid of experiments and compare its cells", epilog=every)
    _ablate_flags(ablation)
    ablation.set_defaults(words=sys.argv[1:] if words is None else words)

    evaluation = commands.add_parser("eval", help="score a checkpoint", epilog=f"key=value: {overrides}")
    guests = "zoo:open_clip:NAME (a folder, hf-hub:ORG/NAME, ARCHITECTURE:TAG), or zoo:clippy:FILE"
    evaluation.add_argument("target", help=f"a checkpoint, a run's folder, an experiment's name for its newest run, {guests}")
    evaluation.set_defaults(call="eval")

    calibration = commands.add_parser("calibrate", help="choose a background threshold on a train split", epilog=f"key=value: {overrides}")
    _calibrate_flags(calibration)

    vocabulary = commands.add_parser("vocabulary", help="look for duplicates, stray blanks and near-ties in the phrases that name classes")
    _vocabulary_flags(vocabulary)

    sweep = commands.add_parser("sweep", help="score a checkpoint at several image sizes, and plot", epilog=f"key=value: {overrides}")
    sweep.add_argument("target", help="as for eval")
    sweep.add_argument("--sizes", required=True, help="pixels a side, separated by commas: 224,336,448")
    sweep.set_defaults(call="sweep")

    comparison = commands.add_parser("compare", help="put results side by side, with intervals over images")
    _compare_flags(comparison)

    report = commands.add_parser("report", help="write results as one HTML page that opens from disk")
    report.add_argument(
        "targets", nargs="+", metavar="RESULT", help="a run's folder (and its evaluations), a result's JSON, or an experiment"
    )
    report.add_argument("--output", default="report.html", help="HTML to write (default: %(default)s)")
    report.set_defaults(call="report")

    segment = commands.add_parser("segment", help="colour a picture by the labels that its locations resemble")
    segment.add_argument("image", help="a picture")
    segment.add_argument("--labels", required=True, help='phrases, separated by commas: "dog, cat, grass"')
    segment.add_argument("--ckpt", required=True, help="a checkpoint, a run's folder, or an experiment's name for its newest run")
    segment.add_argument("--output", help="PNG to write (default: <picture>_segmented.png beside it)")
    segment.set_defaults(call="segment")

    measuring = (calibration, vocabulary)
    data = commands.add_parser("data", help="inspect a source of pairs, pack it into tars, or show what the model sees of it")
    for command in (train, pretrain, ablation, evaluation, sweep, comparison, report, segment, *measuring, *_data_tools(data)):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments, rest = parser.parse_known_args(words)  # flags and key=value words may be mixed
    unknown = [word for word in rest if word.startswith("-") or arguments.call in WITHOUT_OVERRIDES]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}; overrides are key=value")
    arguments.overrides = rest
    return arguments


def _count(word: str) -> int:
    """A number of things, at least one."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number above 0")
    return int(word)


def _data_tools(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    keys = "key=value: as for training, such as data.root=DIR data.options.split=val data.caption=alt_text"
    tools = command.add_subparsers(required=True, metavar="TOOL", dest="tool")
    inspect = tools.add_parser("inspect", help="look at every sample; write a manifest of what there is and what is bad", epilog=keys)
    inspect.add_argument("--to", metavar="FILE", help="JSON to write (default: lightning_logs/data/<source>_<digest>.json)")
    pack = tools.add_parser("pack", help="write a source into webdataset's tars, images as they are", epilog=keys)
    pack.add_argument("--to", metavar="DIR", required=True, help="folder to make")
    pack.add_argument("--shards", type=_count, metavar="N", required=True, help="number of tars")
    pack.add_argument("--limit", type=_count, metavar="M", help="the first M samples; the same as data.limit=M")
    show = tools.add_parser("show", help="draw a contact sheet of the first pairs that training sees", epilog=keys)
    show.add_argument("--to", metavar="FILE", help="PNG to write (default: lightning_logs/data/<source>_<digest>.png)")
    show.add_argument("--count", type=_count, default=24, metavar="N", help="pairs (default: %(default)s)")
    show.add_argument("--columns", type=_count, default=6, metavar="N", help="pairs in a row (default: %(default)s)")
    for tool in (inspect, pack, show):
        tool.add_argument("source", help="tars, parquet, hub, table, coco_captions, flickr, scenes or mixture")
        tool.add_argument("--scale", default="cc12m", help="whose image size and other keys count (default: %(default)s)")
        tool.set_defaults(call="data")
    return [inspect, pack, show]


def _calibrate_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("target", help="a checkpoint, a run's folder, or an experiment's name for its newest run")
    command.add_argument("--bench", required=True, help="a benchmark that measures segmentation, such as pascal_voc")
    command.add_argument("--split", help="the images to choose on (default: train, or tune for scenes)")
    command.set_defaults(call="calibrate")


def _vocabulary_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--list", action="append", default=[], help="one list, such as sclip, or label_set for the sets' own phrases (default: all)"
    )
    command.add_argument("--label-set", action="append", default=[], help="one label set, such as coco_object_81 (default: all)")
    command.add_argument("--ckpt", help="a checkpoint whose text tower shows near-ties")
    command.add_argument("--cosine", type=float, default=0.98, help="how alike a near-tie is (default: %(default)s)")
    command.set_defaults(call="vocabulary")


def _ablate_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("grid", nargs="?", help="a file in experiments/ablations/, without .yaml (default: aggregation_by_init)")
    command.add_argument("--scale", default="demo", help="a file in experiments/scales/, without .yaml (default: %(default)s)")
    command.add_argument("--seeds", type=_count, default=1, metavar="N", help="runs of each cell (default: %(default)s)")
    command.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: 1; all at once on SLURM)")
    command.add_argument("--choose", action="append", default=[], metavar="KEY=a,b", help="each cell at its best, by the tuning split")
    command.add_argument("--dry-run", action="store_true", help="list the runs, those that are finished, and the time")
    command.add_argument("--allow-mixed", action="store_true", help="compare results of several commits, protocols or benchmarks")
    command.add_argument("--cluster", choices=("slurm", "local"), help="submit each run through submitit")
    command.add_argument("--submitit", action="append", default=[], metavar="KEY=value", help="a parameter of submitit's")
    command.set_defaults(call="ablate")


def _compare_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("targets", nargs="+", metavar="RESULT", help="a run's folder, a result's JSON, or an experiment's name")
    command.add_argument(
        "--metric", action="append", default=[], metavar="KEY", help="such as miou or scenes/miou (default: the headlines)"
    )
    command.add_argument("--allow-mixed", action="store_true", help="columns of their own for what was measured in another way")
    for name, default in (("markdown", True), ("latex", False), ("csv", False)):
        help_text = f"write {name}{' (default)' if default else ''}"
        command.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="markdown", help=help_text)
    command.set_defaults(call="compare")
