"""data: inspect a source of pairs, pack it into tars, or draw its training images.  Sources are
named as for training.
"""

import shlex
from argparse import Namespace
from pathlib import Path

from gestalt.config.loading import LOGS
from gestalt.config.schema import Experiment
from gestalt.data_modules.corpora.manifest import write_manifest
from gestalt.data_modules.image_text import ImageTextDataModule, shard_notes
from gestalt.data_modules.sources import Source
from gestalt.data_modules.tools.inspection import contact_sheet, inspect, pack
from gestalt.encoders.keys import train_size
from gestalt.runs.folders import check_writable
from gestalt.runs.source import build_source
from gestalt.runs.training import build_bad_samples
from gestalt.runs.workers import reading_processes
from gestalt.support.addresses import without_secrets
from gestalt.support.files import replacing
from gestalt.support.typed import ConfigError

DRAWING_SIZE = 64
"""Side of the images where none is shown; a source without files draws them at this size."""


def run(arguments: Namespace) -> int:
    """Run the tool and print its summary.  Returns 1 if inspection finds no good sample."""
    tools = {"inspect": inspect_data, "pack": pack_data, "show": show_data}
    arguments.all_bad = False
    print(tools[arguments.tool](arguments))
    return int(arguments.all_bad)


def inspect_data(arguments: Namespace) -> str:
    """Read every sample and write the manifest; store whether all are bad.  Returns the summary.

    Raises:
        ValueError: the source cannot be opened, or ``data.manifest`` is set.
    """
    config: Experiment = arguments.config
    if config.data.manifest is not None:
        raise ConfigError(
            f"data.manifest={config.data.manifest}: inspection looks at the whole source; choose "
            "null"
        )
    source = build_source(config, size=DRAWING_SIZE)
    path = _place(arguments, source, ".json")
    bad, counted = inspect(source, workers=reading_processes(config))
    digest = write_manifest(path, source, bad, counted)
    sizes = [f"{name} {_range(spread)}" for name, spread in counted["images"].items()]
    texts = counted["captions"]
    words = [f"{name} {_range(texts[name])}" for name in ("characters", "words")]
    unusable = texts["unusable_beside_usable"]
    beside = f"; {unusable:,} more cannot be used" if unusable else ""
    lines = [
        _title(config, source),
        *shard_notes(source.about()),
        f"images: {', '.join(sizes)}",
        f"captions: {texts['usable']:,}, {', '.join(words)}{beside}",
        f"bad: {len(bad):,} of {len(source):,} ({len(bad) / len(source):.2%})",
    ]
    training = build_bad_samples(config)
    for reason, row in counted["bad_by_reason"].items():
        lines.append(
            f"  {reason} {row['count']:,}, the first is {row['first']['key']} in "
            f"{row['first']['where']}{training.hints.get(reason, '')}"
        )
    for kind, row in counted["duplicates"].items():
        line = f"repeated {kind}: {row['repeats']:,}"
        if most := row.get("commonest"):
            first = "first in samples {} and {}".format(*most["samples"])
            line += f", the commonest {most['count']:,} times, {first}"
        lines.append(line)
    lines.append(f"manifest: {path}, sha256 {digest}")
    arguments.all_bad = len(bad) == len(source)
    if bad and not arguments.all_bad:
        most = training.max_share
        stop = f"training would stop above data.max_bad_share={most}; raise it, or "
        mend = f"leave the bad samples out by {shlex.quote(f'data.manifest={path}')}"
        lines.append(stop * (len(bad) > most * len(source)) + mend)
    return "\n".join(lines)


def pack_data(arguments: Namespace) -> str:
    """Write a source into tars.  Returns the summary.

    Raises:
        ValueError: the source cannot be opened, or as ``pack``.
    """
    config: Experiment = arguments.config
    to = arguments.to
    # a stranger's table must not pack files of this machine
    source = build_source(config, size=DRAWING_SIZE, outside=False)
    counts = pack(source, Path(to), arguments.shards)
    packed = f"packed {counts.pop('samples'):,} samples into {arguments.shards} tars in {to}"
    if counts:
        left_out = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        packed += f"; left out: {left_out}"
    mend = f"train on them by data.source=tars {shlex.quote(f'data.root={to}')}"
    return f"{_title(config, source)}\n{packed}\n{mend}"


def show_data(arguments: Namespace) -> str:
    """Draw the first pairs of a training run.  Returns the summary, with the path of the picture.

    Raises:
        ValueError: the source cannot be opened.
    """
    config: Experiment = arguments.config
    size = train_size(config.image)
    source = build_source(config)
    count = min(arguments.count, len(source))
    data = ImageTextDataModule(
        source,
        size=size,
        batch_size=count,
        workers=0,
        seed=config.seed,
        window=config.data.window_shards,
    )
    batch = next(iter(data.train_dataloader()))
    title = _title(config, source)
    selection = (
        f"the first {count} of an epoch with seed {config.seed}, at {size} pixels as scale "
        f"{config.scale} trains"
    )
    path = _place(arguments, source, ".png" if arguments.to else f"_{size}px.png")
    sheet = contact_sheet(batch, title=f"{title}\n{selection}", columns=arguments.columns)
    with replacing(path) as partial:
        sheet.savefig(partial, format="png")
    return f"{title}\nsheet: {path}"


def _place(arguments: Namespace, source: Source, suffix: str) -> Path:
    name = f"{arguments.config.data.source}_{source.digest()}{suffix}"
    path = Path(arguments.to or LOGS / "data" / name)
    if arguments.to and not path.parent.is_dir():
        raise ConfigError(f"--to {path}: folder {path.parent} not found")
    if path.is_dir():
        raise ConfigError(
            f"--to {path}: is a folder; name a file, such as {path / f'data{suffix}'}"
        )
    check_writable(path.parent, option="--to FILE")  # before an hour of reading
    return path


def _title(config: Experiment, source: Source) -> str:
    root = "" if config.data.root is None else f" at {without_secrets(config.data.root)}"
    shards = len(source.blocks())
    left_out = source.about().get("left_out_by_limit")
    limited = f" (data.limit leaves out {left_out:,} more)" if left_out else ""
    return (
        f"{config.data.source}{root}: {len(source):,} samples{limited} in {shards:,} "
        f"shard{'s' * (shards != 1)}, digest {source.digest()}"
    )


def _range(spread: dict[str, int]) -> str:
    if not spread:
        return "unknown"
    return f"{spread['least']:,} to {spread['most']:,} (median {spread['median']:,})"
