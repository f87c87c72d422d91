"""The flags of each command."""

import argparse

SCALE = "one of `gestalt list scales`, or the path of a YAML file of yours (default: %(default)s)"
VALUE_KINDS = "index (class indices), reduce_zero_label (index + 1, 0 is no class), truth (as in the benchmark's masks), voc_colours (RGB)"
MODEL = (
    "a checkpoint, a run's folder, an experiment's name for its newest finished plain run, an exported folder or its name on the hub, "
    "or another model as KIND:NAME, such as open_clip:FOLDER (docs/evaluation.md)"
)
SEGMENTED, GROUPED = "_segmented.png", "_grouped.png"
"""Endings of the name of a single picture's result, beside the picture."""


def _count(word: str) -> int:
    """Parse an integer above 0."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {word!r}")
    return int(word)


def train_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``train``."""
    command.add_argument("experiment", help="one of `gestalt list experiments`, or the path of a YAML file of yours")
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument("--plan", action="store_true", help="take a few steps, print the run's estimated speed, memory and time, and stop")


def features_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``features``."""
    command.add_argument("experiment", help="one of `gestalt list experiments`, or the path of a YAML file of yours")
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument("--to", metavar="DIR", required=True, help="folder to make, or to complete; train with data.features=DIR")
    formats = "number format of the files (default: %(default)s, exact)"
    command.add_argument("--dtype", choices=("float32", "float16"), default="float32", help=formats)
    command.add_argument("--check", action="store_true", help="write nothing; only check that DIR is complete and made for this run")


def pretrain_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``pretrain``."""
    command.add_argument("--init", choices=("dino", "supervised"), required=True, help="self-distillation, or classification by labels")
    command.add_argument("--scale", default="demo", help=SCALE)
    command.add_argument("--to", metavar="FILE", help="file to write (default: lightning_logs/pretrained/SCALE/INIT.safetensors)")


def eval_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``eval``."""
    command.add_argument("target", help=MODEL)
    command.add_argument("--sizes", metavar="N,N", help="score at each of these sizes, pixels a side, and plot: 224,336,448")
    command.add_argument(
        "--calibrate", metavar="BENCHMARK", help="choose the background threshold of a benchmark that measures segmentation"
    )
    command.add_argument("--protocols", metavar="NAME,NAME", help="score segmentation under each of these protocols, or all, and plot")
    command.add_argument("--split", help="the images that --calibrate chooses on (default: train, or tune for scenes)")
    command.add_argument("--output", metavar="DIR", help="folder for the records (default: the run's)")
    command.add_argument("--predictions", metavar="DIR", help="write the predicted class maps to DIR/<benchmark>, for score or other tools")


def score_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``score``."""
    maps = "indexed or grey PNG (8 or 16 bits) or .npy, named by the benchmark's images"
    command.add_argument("folder", metavar="DIR", help=f"label maps: {maps}; or with a sub-folder of the benchmark's name")
    command.add_argument("--bench", required=True, metavar="BENCHMARK", help="one that measures segmentation, such as pascal_voc")
    command.add_argument("--name", help="name of the system in tables (default: the folder's)")
    command.add_argument(
        "--measure", choices=("segmentation", "grouping"), default="segmentation", help="class maps, or maps whose every value is a group"
    )
    command.add_argument("--values", default="index", metavar="KIND|FILE", help=f"{VALUE_KINDS}; or a JSON of value to class name or null")
    command.add_argument("--suffix", default="", help="what follows the image's name in the files' names, such as --suffix=_leftImg8bit")
    command.add_argument("--resize", choices=("nearest",), help="scale maps of another size than the truth (default: refuse them)")
    command.add_argument("--note", action="append", default=[], metavar="KEY=VALUE", help="a fact for the record, such as protocol=...")
    command.add_argument("--output", metavar="DIR", help="folder for the records (default: lightning_logs/predictions/<name>)")


def reproduce_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``reproduce``."""
    command.add_argument("name", nargs="?", help="a published number, such as sclip/voc21 (default: list all)")
    command.add_argument("--model", metavar="KIND:NAME", help="the model in place of the published one, such as open_clip:FOLDER")
    command.add_argument("--output", metavar="DIR", help="folder for the record (default: the model's)")


def report_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``report``."""
    results = "a run's folder (and its evaluations), a result's JSON, or an experiment"
    command.add_argument("targets", nargs="+", metavar="RESULT", help=results)
    command.add_argument("--output", default="report.html", help="HTML to write (default: %(default)s)")


def _picture_flags(command: argparse.ArgumentParser, *, single: str) -> None:
    command.add_argument("paths", nargs="+", metavar="PATH", help="a picture, a folder of pictures, or a quoted pattern such as '**/*.jpg'")
    command.add_argument("--model", "--ckpt", dest="models", action="append", required=True, metavar="TARGET", help=f"{MODEL}; repeatable")
    command.add_argument("--protocol", metavar="NAME", help="how pictures are resized and compared (default: the model's)")
    command.add_argument("--to", metavar="DIR", help="folder for coloured pictures, maps and numbers, made if missing")
    command.add_argument("--html", metavar="FILE", help="page with pictures, masks, heat maps and areas, which opens from disk")
    command.add_argument("--npy", action="store_true", help="also write the maps as NumPy arrays")
    command.add_argument("--output", metavar="FILE", help=f"PNG of a single picture (default: <picture>{single} beside it)")


def segment_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``segment``."""
    _picture_flags(command, single=SEGMENTED)
    command.add_argument("--labels", required=True, help='phrases, separated by commas: "dog, cat, grass"; one needs --threshold')
    command.add_argument("--reading", metavar="NAME", help="how the tower's last block is computed, such as naclip")
    command.add_argument("--threshold", type=float, metavar="X", help="smallest score of a labelled pixel, a cosine in most protocols")
    command.add_argument("--groups", type=_count, metavar="N", help="also show this many groups on the page")


def group_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``group``."""
    _picture_flags(command, single=GROUPED)
    command.add_argument("--groups", type=_count, default=8, metavar="N", help="largest number of groups (default: %(default)s)")


def export_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``export``."""
    command.add_argument("target", help=MODEL)
    command.add_argument("--to", metavar="DIR", help="folder to make: weights, configuration, tokenizer and model card of a run")
    command.add_argument(
        "--license", metavar="ID", help="licence of the weights for the card, such as apache-2.0 (default: none is stated)"
    )
    command.add_argument("--dataset", action="append", default=[], metavar="NAME", help="name on the hub of training data, for the card")
    command.add_argument("--onnx", metavar="FILE", help="ONNX file of the dense image encoder to write; needs the extra onnx")
    command.add_argument("--torch-export", metavar="FILE", help="file of the same encoder for torch.export.load")
    command.add_argument(
        "--pixels",
        choices=("uint8", "float"),
        default="uint8",
        help="input of these files: uint8, or float in [0, 1] (default: %(default)s)",
    )


def data_tools(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Add the tools of ``data``, and return their parsers."""
    keys = "key=value: as for training, such as data.root=DIR data.options.split=val data.caption=alt_text"
    tools = command.add_subparsers(required=True, metavar="TOOL", dest="tool")
    inspect = tools.add_parser(
        "inspect", help="read every sample, and write a manifest with counts and the bad samples", epilog=keys, allow_abbrev=False
    )
    inspect.add_argument("--to", metavar="FILE", help="JSON to write (default: lightning_logs/data/<source>_<digest>.json)")
    pack = tools.add_parser("pack", help="write a source into webdataset's tars, image files unchanged", epilog=keys, allow_abbrev=False)
    pack.add_argument("--to", metavar="DIR", required=True, help="folder to make")
    pack.add_argument("--shards", type=_count, metavar="N", required=True, help="number of tars")
    pack.add_argument("--limit", type=_count, metavar="M", help="the first M samples; the same as data.limit=M")
    show = tools.add_parser("show", help="draw a contact sheet of the first pairs that training sees", epilog=keys, allow_abbrev=False)
    show.add_argument("--to", metavar="FILE", help="PNG to write (default: lightning_logs/data/<source>_<digest>_<size>px.png)")
    show.add_argument("--count", type=_count, default=24, metavar="N", help="number of pairs (default: %(default)s)")
    show.add_argument("--columns", type=_count, default=6, metavar="N", help="pairs in a row (default: %(default)s)")
    for tool in (inspect, pack, show):
        tool.add_argument("source", help="tars, parquet, hub, table, coco_captions, flickr, scenes or mixture")
        tool.add_argument("--scale", default="cc12m", help="scale whose image size and other keys are used (default: %(default)s)")
    return [inspect, pack, show]


def vocabulary_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``vocabulary``."""
    command.add_argument(
        "--list", action="append", default=[], help="one list, such as sclip, or label_set for the sets' own phrases (default: all)"
    )
    command.add_argument("--label-set", action="append", default=[], help="one label set, such as coco_object_81 (default: all)")
    command.add_argument("--model", "--ckpt", dest="ckpt", help="a model as for eval, to list the near-ties of its text tower")
    command.add_argument("--cosine", type=float, default=0.98, help="smallest cosine of a near-tie (default: %(default)s)")


def ablate_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``ablate``."""
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
    command.add_argument("--submitit", action="append", default=[], metavar="KEY=value", help="a parameter for submitit")


def compare_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``compare``."""
    command.add_argument("targets", nargs="+", metavar="RESULT", help="a run's folder, a result's JSON, or an experiment's name")
    command.add_argument(
        "--metric", action="append", default=[], metavar="KEY", help="such as miou or scenes/miou (default: the headlines)"
    )
    command.add_argument("--allow-mixed", action="store_true", help="give results that were measured differently columns of their own")
    command.add_argument("--details", action="store_true", help="list every setting in which results were measured differently")
    for name, default in (("markdown", True), ("latex", False), ("csv", False)):
        help_text = f"write {name}{' (default)' if default else ''}"
        command.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="markdown", help=help_text)


def list_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of ``list``."""
    parts = ("experiments", "scales", "grids", "aggregations", "inits", "losses", "terms", "sources")
    kinds = (*parts, "image_sets", "benchmarks", "protocols")
    command.add_argument("kind", nargs="?", choices=(*kinds, "measures", "models"), help="one table (default: all)")
