"""data: download a published set, or inspect a source of pairs, pack it into tars, or draw its
training images.  Sources are named as for training.
"""

import shlex
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gestalt.commands.flags import add_keys, add_scale, count
from gestalt.config.folders import LOGS
from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.data_modules.keys import check_options
from gestalt.data_modules.tools.get import ELSEWHERE, ROOT, SETS, get
from gestalt.measures.evaluation.published import published_on
from gestalt.runs.experiment import check_pairs
from gestalt.support.addresses import without_secrets
from gestalt.support.files import replacing
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError

if TYPE_CHECKING:
    from gestalt.data_modules.sources import Source

DRAWING_SIZE = 64
"""Side of the images in pixels when no image is shown.  A source without files draws them at this
size.
"""


TOOLS = {
    "get": "download published sets, and unpack them where training or a benchmark reads them",
    "inspect": "read every sample, and write a manifest with counts and the bad samples",
    "pack": "write a source into webdataset's tars, image files unchanged",
    "show": "draw a contact sheet of the first pairs that training sees",
}


def flags(parser: ArgumentParser) -> None:
    """Declare the tools, each with its flags."""
    group = parser.add_subparsers(required=True, metavar="TOOL", dest="tool")
    download, *tools = [group.add_parser(name, help=TOOLS[name]) for name in TOOLS]
    download.add_argument("names", nargs="+", metavar="NAME", help=", ".join(SETS))
    download.add_argument(
        "--to",
        metavar="DIR",
        default=ROOT,
        help="folder for all data sets (default: %(default)s)",
    )
    download.add_argument(
        "--dry-run", action="store_true", help="only print addresses, bytes and layout"
    )
    for tool in tools:
        tool.add_argument(
            "source",
            help="tars, parquet, hub, table, coco_captions, flickr, scenes or mixture",
        )
        add_scale(tool, "cc12m")
        add_keys(
            tool,
            "as for training, such as data.root=DIR data.options.split=val data.caption=alt_text",
        )
    inspect, pack, show = tools
    beside = "lightning_logs/data/<source>_<digest>"
    inspect.add_argument("--to", metavar="FILE", help=f"JSON (default: {beside}.json)")
    pack.add_argument("--to", metavar="DIR", required=True, help="folder to make")
    pack.add_argument("--shards", type=count, required=True, help="number of tars")
    pack.add_argument("--limit", type=count, help="the first N samples; the same as data.limit=N")
    show.add_argument("--to", metavar="FILE", help=f"PNG (default: {beside}_<n>px.png)")
    show.add_argument(
        "--count", type=count, default=24, help="number of pairs (default: %(default)s)"
    )
    show.add_argument(
        "--columns", type=count, default=6, help="pairs in a row (default: %(default)s)"
    )


def check(arguments: Namespace) -> Experiment | None:
    """Check the names of sets; or return the configuration for training on the source."""
    if arguments.tool == "get":
        for name in arguments.names:
            if name not in SETS:
                raise ConfigError(f"{name}: {ELSEWHERE.get(name) or nearest(name, SETS)}")
        return None
    words = [
        f"data.source={arguments.source}",
        "evaluation.benchmarks=[]",
        "image.init=random",
        *arguments.overrides,
    ]
    if "limit" in arguments and arguments.limit is not None:
        words.append(f"data.limit={arguments.limit}")
    config = load(None, scale=arguments.scale, overrides=words)
    check_options(config.data)
    if arguments.tool == "inspect" and config.data.manifest is not None:
        raise ConfigError(
            f"data.manifest={config.data.manifest}: inspection looks at the whole source; choose "
            "null"
        )
    check_pairs(config)
    return config


def run(arguments: Namespace) -> int:
    """Print a description of the source, and run the tool.  Returns 1 if inspection finds no
    readable sample.

    Raises:
        ValueError: the source cannot be opened, or its tool cannot use it.
    """
    if arguments.tool == "get":
        for name in arguments.names:
            get(name, Path(arguments.to), dry_run=arguments.dry_run)
        ready = published_on(arguments.names)
        if ready and not arguments.dry_run:
            root = shlex.quote(f"benchmark_root={arguments.to}")
            print(f"score a published number again: gestalt reproduce {ready[0]} {root}")
        return 0
    from gestalt.data_modules.image_text import source_notes
    from gestalt.runs.source import build_source

    config: Experiment = arguments.checked
    # A table from somebody else must not pack files of this machine.
    options = {"outside": False} if arguments.tool == "pack" else {}
    size = None if arguments.tool == "show" else DRAWING_SIZE
    source = build_source(config, size=size, **options)
    shards = len(source.blocks())
    root = "" if config.data.root is None else f" at {without_secrets(config.data.root)}"
    title = (
        f"{config.data.source}{root}: {len(source):,} samples in {shards:,} "
        f"shard{'' if shards == 1 else 's'}, digest {source.digest()}"
    )
    print(without_secrets("; ".join([title, *source_notes(source.about())])))
    if arguments.tool == "pack":
        _pack(arguments, source)
    elif arguments.tool == "show":
        _show(arguments, source, title)
    else:
        return int(_inspect(arguments, source))
    return 0


def _inspect(arguments: Namespace, source: "Source") -> bool:
    """Read every sample, write the manifest and print the counts.  Returns True if all are bad."""
    from gestalt.data_modules.corpora.manifest import write_manifest
    from gestalt.data_modules.tools.inspection import inspect
    from gestalt.runs.evaluation import build_image_sets
    from gestalt.runs.source import reading_processes
    from gestalt.runs.training import build_bad_samples

    path = _place(arguments, source, ".json")
    workers = reading_processes(arguments.checked.data)
    image_sets = build_image_sets(arguments.checked)
    bad, counted = inspect(source, workers, image_sets)
    digest = write_manifest(path, source, bad, counted)
    sizes = [f"{name} {_range(spread)}" for name, spread in counted["images"].items()]
    texts = counted["captions"]
    lines = [
        f"images: {', '.join(sizes)}",
        f"captions: {texts['usable']:,}, words {_range(texts['words'])}; "
        f"{texts['unusable_beside_usable']:,} more cannot be used",
        f"bad: {len(bad):,} of {len(source):,} ({len(bad) / len(source):.2%})",
    ]
    training = build_bad_samples(arguments.checked.data)
    firsts = {reason: f"{key} in {where}" for _, reason, where, key in reversed(bad)}
    for reason, number in Counter(reason for _, reason, _, _ in bad).most_common():
        hint = training.hints.get(reason, "")
        lines.append(f"  {reason} {number:,}, the first is {firsts[reason]}{hint}")
    for kind, row in counted["duplicates"].items():
        lines.append(f"repeated {kind}: {row['repeats']:,}")
    for name, row in counted.get("shared_images", {}).items():
        lines.append(f"images of {name} in the source: {row['shared']:,} of {row['images']:,}")
    lines.append(f"manifest: {path}, sha256 {digest}")
    all_bad = len(bad) == len(source)
    if bad and not all_bad:
        most = training.max_share
        mend = f"leave the bad samples out by {shlex.quote(f'data.manifest={path}')}"
        if len(bad) > most * len(source):
            mend = f"training would stop above data.max_bad_share={most}; raise it, or {mend}"
        lines.append(mend)
    print(without_secrets("\n".join(lines)))
    return all_bad


def _pack(arguments: Namespace, source: "Source") -> None:
    """Write a source into tars, and print how many samples it has and how to train on them.

    Raises:
        ValueError: the folder holds something, or a sample cannot be packed.
    """
    from gestalt.data_modules.tools.packing import pack
    from gestalt.runs.folders import check_writable

    to = arguments.to
    check_writable(Path(to).parent, option="--to DIR")
    counts = pack(source, Path(to), arguments.shards)
    packed = f"packed {counts.pop('samples'):,} samples into {arguments.shards} tars in {to}"
    if counts:
        left_out = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        packed += f"; left out: {left_out}"
    print(packed)
    print(f"train on them by data.source=tars {shlex.quote(f'data.root={to}')}")


def _show(arguments: Namespace, source: "Source", title: str) -> None:
    """Draw the first pairs of a training run below the title, and print the picture's path."""
    from gestalt.data_modules.image_text import ImageTextDataModule
    from gestalt.data_modules.tools.contact_sheet import contact_sheet
    from gestalt.encoders.keys import train_size

    config: Experiment = arguments.checked
    size = train_size(config.image)
    count = min(arguments.count, len(source))
    data = ImageTextDataModule(
        source,
        size=size,
        batch_size=count,
        seed=config.seed,
        window=config.data.window_shards,
    )
    batch = next(iter(data.train_dataloader()))
    selection = (
        f"the first {count} of an epoch with seed {config.seed}, at {size} pixels as scale "
        f"{config.scale} trains"
    )
    path = _place(arguments, source, ".png" if arguments.to else f"_{size}px.png")
    sheet = contact_sheet(batch, title=f"{title}\n{selection}", columns=arguments.columns)
    with replacing(path) as partial:
        sheet.savefig(partial, format="png")
    print(f"sheet: {path}")


def _place(arguments: Namespace, source: "Source", suffix: str) -> Path:
    from gestalt.runs.folders import check_writable

    name = f"{arguments.checked.data.source}_{source.digest()}{suffix}"
    path = Path(arguments.to or LOGS / "data" / name)
    if arguments.to and not path.parent.is_dir():
        raise ConfigError(f"--to {path}: folder {path.parent} not found")
    if path.is_dir():
        raise ConfigError(
            f"--to {path}: is a folder; name a file, such as {path / f'data{suffix}'}"
        )
    check_writable(path.parent, option="--to FILE")  # before reading, which may take an hour
    return path


def _range(spread: dict[str, int]) -> str:
    if not spread:
        return "unknown"
    return f"{spread['least']:,} to {spread['most']:,} (median {spread['median']:,})"
