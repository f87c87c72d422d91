"""data: inspect a source of pairs, pack it into tars, or draw its training images.  Sources are
named as for training.
"""

import os
import shlex
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gestalt.building.source import open_configured, train_size
from gestalt.building.training import IMAGES_OF_TABLE
from gestalt.building.workers import reading_processes
from gestalt.config.check_data import options_written
from gestalt.config.loading import LOGS
from gestalt.config.schema import ConfigError, Experiment
from gestalt.data_modules.corpora.manifest import write_manifest
from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.sources import Source
from gestalt.data_modules.tools.contact_sheet import contact_sheet
from gestalt.data_modules.tools.inspection import inspect
from gestalt.data_modules.tools.packing import pack
from gestalt.support.files import replacing


def run(arguments: Namespace) -> int:
    """Run the tool and print its summary."""
    config, to = arguments.config, arguments.to
    if arguments.tool == "inspect":
        print(inspect_data(config, to=to))
    elif arguments.tool == "pack":
        print(pack_data(config, to=to, shards=arguments.shards))
    else:
        print(show_data(config, to=to, count=arguments.count, columns=arguments.columns))
    return 0


def inspect_data(config: Experiment, *, to: str | None) -> str:
    """Read every sample and write the manifest.  Returns the summary.

    Raises:
        ValueError: the source cannot be opened, or ``data.manifest`` is set.
    """
    if config.data.manifest is not None:
        raise ConfigError(
            f"data.manifest={config.data.manifest}: inspection looks at the whole source; choose "
            "null"
        )
    source = _open(config)
    path = _place(config, source, to=to, suffix=".json")
    bad, counted = inspect(source, workers=reading_processes(config), progress=_bar)
    digest = write_manifest(path, source=source, bad=bad, counted=counted)
    mends = IMAGES_OF_TABLE if config.data.source == "table" else {}
    lines = [
        _title(config, source),
        *_summary(counted, bad=len(bad), samples=len(source), mends=mends),
        f"manifest: {path}, sha256 {digest}",
    ]
    lines += [f"leave the bad samples out by {shlex.quote(f'data.manifest={path}')}"] if bad else []
    return "\n".join(lines)


def pack_data(config: Experiment, *, to: str, shards: int) -> str:
    """Write a source into tars.  Returns the summary.

    Raises:
        ValueError: the source cannot be opened, or as ``pack``.
    """
    source = _open(config, **_inside(config))
    counts = pack(source, Path(to), shards=shards, progress=_bar)
    left_out = [f"{count} {reason}" for reason, count in counts.items() if reason != "samples"]
    packed = f"packed {counts['samples']:,} samples into {shards} tars in {to}"
    packed += f"; left out: {', '.join(left_out)}" if left_out else ""
    return (
        f"{_title(config, source)}\n{packed}\ntrain on them by data.source=tars "
        f"{shlex.quote(f'data.root={to}')}"
    )


def show_data(config: Experiment, *, to: str | None, count: int, columns: int) -> str:
    """Draw the first pairs of a training run.  Returns the summary, with the path of the picture.

    Raises:
        ValueError: the source cannot be opened.
    """
    size = train_size(config.image)
    source = _open(config, size=size)
    count = min(count, len(source))
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
    drawn = (
        f"the first {count} of an epoch with seed {config.seed}, at {size} pixels as scale "
        f"{config.scale} trains"
    )
    path = _place(config, source, to=to, suffix=".png" if to else f"_{size}px.png")
    with replacing(path) as partial:
        contact_sheet(batch, title=f"{title}\n{drawn}", columns=columns).savefig(
            partial, format="png"
        )
    return f"{title}\nsheet: {path}"


def _open(config: Experiment, *, size: int = 64, **options: Any) -> Source:
    """Open the source; ``size`` matters only where crops are shown."""
    return open_configured(config, size=size, seed=config.seed, limit=config.data.limit, **options)


def _inside(config: Experiment) -> dict[str, Any]:
    """Return options with which sources refuse images outside of their folder: a stranger's table
    must not pack files of this machine.
    """
    data = config.data
    if data.source != "mixture":
        return _refusing(data.source, data.options)
    parts = [asdict(part) for part in data.mixture]
    for part in parts:
        part["options"] |= _refusing(part["source"], part["options"])
    return {"parts": parts}


def _refusing(source: str, options: dict[str, object]) -> dict[str, object]:
    known = "outside" in (options_written(source) or ())
    return {"outside": False} if known and "outside" not in options else {}


def _place(config: Experiment, source: Source, *, to: str | None, suffix: str) -> Path:
    if to is None:
        path = LOGS / "data" / f"{config.data.source}_{source.digest()}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        path = Path(to)
    if not path.parent.is_dir():
        raise ConfigError(f"--to {to}: folder {path.parent} not found")
    if path.is_dir():
        raise ConfigError(f"--to {to}: is a folder; name a file, such as {path / f'data{suffix}'}")
    if not os.access(path.parent, os.W_OK):  # refused before an hour of reading
        raise ConfigError(f"--to {path}: {path.parent} cannot be written; name another file")
    return path


def _title(config: Experiment, source: Source) -> str:
    root = "" if config.data.root is None else f" at {config.data.root}"
    shards = len(source.blocks())
    left_out = source.about().get("left_out_by_limit")
    limited = f" (data.limit leaves out {left_out:,} more)" if left_out else ""
    return (
        f"{config.data.source}{root}: {len(source):,} samples{limited} in {shards:,} "
        f"shard{'s' * (shards != 1)}, digest {source.digest()}"
    )


def _summary(
    counted: dict[str, Any], *, bad: int, samples: int, mends: dict[str, str]
) -> list[str]:
    """Return the counts as lines of text."""
    sizes = [f"{name} {_range(spread)}" for name, spread in counted["images"].items()]
    texts = counted["captions"]
    words = [f"{name} {_range(texts[name])}" for name in ("characters", "words")]
    beside = (
        f"; {texts['unusable_beside_usable']:,} more cannot be used"
        if texts["unusable_beside_usable"]
        else ""
    )
    lines = [
        f"images: {', '.join(sizes)}",
        f"captions: {texts['usable']:,}, {', '.join(words)}{beside}",
    ]
    lines += [f"bad: {bad:,} of {samples:,} ({bad / samples:.2%})"]
    for reason, row in counted["bad_by_reason"].items():
        mend = f"; {mends[reason]}" if reason in mends else ""
        lines.append(
            f"  {reason} {row['count']:,}, the first is {row['first']['key']} in "
            f"{row['first']['where']}{mend}"
        )
    for kind, row in counted["duplicates"].items():
        most = row.get("commonest")
        example = (
            f", the commonest {most['count']:,} times, first in samples {most['samples'][0]} and "
            f"{most['samples'][1]}"
            if most
            else ""
        )
        lines.append(f"repeated {kind}: {row['repeats']:,}{example}")
    return lines


def _range(spread: dict[str, int]) -> str:
    return (
        f"{spread['least']:,} to {spread['most']:,} (median {spread['median']:,})"
        if spread
        else "unknown"
    )


def _bar(samples: Iterator[Any], count: int) -> Iterator[Any]:
    """Show a progress bar on a terminal."""
    return iter(tqdm(samples, total=count, unit=" samples", disable=None, mininterval=0.5))
