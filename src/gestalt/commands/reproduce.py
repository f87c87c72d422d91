"""reproduce: measure a published number again, print both numbers, and say whether ours passes."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from gestalt.commands.flags import add_keys
from gestalt.config.schema import NOT_HASHED
from gestalt.data_modules.tools.get import ROOT, SETS
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.published import published, published_number
from gestalt.support.typed import ConfigError

CHANGING = ("evaluation.", "image.", "text.")
"""Prefixes of keys that may change a score.  Keys of ``NOT_HASHED`` are excepted."""


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "name",
        nargs="?",
        help="a published number, such as sclip/voc21 (default: list all)",
    )
    parser.add_argument(
        "--model",
        metavar="KIND:NAME",
        help="a model instead of the published one: open_clip:FOLDER",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder for the results file (default: the model's)"
    )
    add_keys(parser)


def check(arguments: Namespace) -> list[str]:
    """Check the name, and that key=value words come with a name and do not change its settings.

    Returns the words, with the folder of ``gestalt data get`` if they name no folder.
    """
    words = [word for word in arguments.overrides if "=" not in word]
    if words or (arguments.name is not None and "=" in arguments.name):
        raise ConfigError(
            f"reproduce: {' '.join(words) or arguments.name}: name one published number, then "
            "key=value words"
        )
    if arguments.name is None:
        return []
    row = published_number(arguments.name)
    row.check(arguments.overrides)
    if any(word.startswith("benchmark_root=") for word in arguments.overrides):
        return [*arguments.overrides]
    benchmark = BENCHMARKS[row.benchmark]
    sets = benchmark.sets
    lacking = [name for name in sets if name not in SETS or SETS[name].missing(Path(ROOT))]
    if lacking or not sets:
        get = f"run `gestalt data get {' '.join(lacking)}`, or " if lacking else ""
        raise ConfigError(
            f"reproduce {row.name}: needs the data of {row.benchmark}; {get}write "
            f"benchmark_root=DIR, {benchmark.layout}"
        )
    return [*arguments.overrides, f"benchmark_root={ROOT}"]


def run(arguments: Namespace) -> int:
    """List the published numbers; or measure one of them again, and print both numbers, their
    difference and a verdict.

    Returns:
        The exit status: 0 for the list and for a pass; 1 for a fail, or if there is no verdict
        because only a part of the set was scored or the settings are not the published ones.

    Raises:
        ValueError: the data or the weights are missing; the message says where they belong.
    """
    if arguments.name is None:
        print("name, value in percent, metric, protocol, model")
        for row in published().values():
            print(
                f"{row.name:31} {row.value:6.2f}  {row.metric:25}  {row.protocol:24} {row.model}, "
                f"by {row.stated_by}"
            )
        return 0
    from gestalt.results.text import amount, images_text
    from gestalt.runs.evaluation import build_image_sets
    from gestalt.runs.score import open_target, score
    from gestalt.support.process import first_rank, tell

    row = published_number(arguments.name)
    model = arguments.model
    words = [*row.overrides(), *arguments.checked]
    try:
        target = open_target(model or row.model, overrides=words, output=arguments.output)
    except ValueError as error:
        raise ValueError(
            f"reproduce {row.name}: {row.model} cannot be opened here ({error}); --model "
            "KIND:FOLDER names it on disk"
        ) from error
    images: Any = next(iter(build_image_sets(target.config).values()))
    stored = sum(path.stat().st_size for path in images.paths)
    weights = sum(tensor.nbytes for tensor in target.model.state_dict().values())
    tell(
        f"{row.name}: {len(images)} images of {amount(stored, 'B')}, weights of "
        f"{amount(weights, 'B')}; the time is not known before the first images"
    )
    record = score(target, overrides=words).record
    entry = next(entry for entry in record["benchmarks"] if entry["set"] == row.benchmark)
    ours = 100 * record["metrics"][f"{row.benchmark}/{row.metric}"]
    difference = round(ours - row.value, 2)
    verdict = "pass" if abs(difference) <= row.tolerance else "fail"
    detail = f"tolerance {row.tolerance:g} points, {images_text(entry)}"
    changed = [
        word
        for word in arguments.checked
        if word.startswith(CHANGING) and word.partition("=")[0] not in NOT_HASHED
    ]
    if entry["images"] != entry.get("images_official"):
        verdict, detail = "no verdict", f"{images_text(entry)} were scored"
    elif changed:
        verdict, detail = "no verdict", f"scored with {' '.join(changed)}"
    if first_rank():
        print(
            f"{row.name}: published {row.value:.2f}, ours {ours:.2f}, difference "
            f"{difference:+.2f}: {verdict} ({detail})"
        )
    tell(f"published by {row.source}")
    if model not in (None, row.model):
        tell(f"the model was {model} in place of {row.model}")
    return int(verdict != "pass")
