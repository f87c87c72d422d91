"""export: write a trained model as a folder that loads anywhere, and its dense image encoder as an
ONNX graph.
"""

import re
from argparse import ArgumentParser, Namespace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from gestalt.commands.flags import MODEL, add_code, check_code, check_ending, read_labels
from gestalt.config.start import read_start
from gestalt.models.finding import check_target
from gestalt.models.names import config_of, is_own, run_of
from gestalt.support.files import check_free
from gestalt.support.typed import ConfigError

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""Packages that ``--onnx`` needs: the format, its writer, and the runtime that checks the written
file.
"""


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("target", help=MODEL)
    add(
        "--to",
        metavar="DIR",
        help="folder to create, with weights, configuration, tokenizer and model card",
    )
    add(
        "--share",
        metavar="SHARES",
        help="weights between the run's start (0) and the run (1): 0.5; or 0,0.5,1 to DIR_0.0 ...",
    )
    add(
        "--license",
        help="licence of the weights, such as apache-2.0 (default: none stated)",
    )
    add(
        "--dataset",
        action="append",
        default=[],
        help="name on the hub of training data, for the card; repeatable",
    )
    add(
        "--onnx",
        metavar="FILE",
        help="ONNX file of the dense image encoder to write; needs the extra onnx",
    )
    add("--labels", help='phrases for the metadata of --onnx, with their vectors: "dog, cat"')
    add(
        "--torch-export",
        metavar="FILE",
        help="file of the same encoder for torch.export.load",
    )
    add(
        "--pixels",
        choices=("uint8", "float"),
        default="uint8",
        help="input of these files: uint8, or float in [0, 1] (default: %(default)s)",
    )
    add_code(parser)


class Checked(NamedTuple):
    """The labels and folders that ``check`` has read.

    Attributes:
        labels: the labels of the ONNX file.
        folders: the folder to write for each share; None for the run's own weights.
    """

    labels: list[str]
    folders: dict[float | None, str]


def check(arguments: Namespace) -> Checked:
    """Check the labels, the output folders and the configuration of the run."""
    check_code(arguments)
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
    if arguments.labels is not None and onnx is None:
        raise ConfigError("--labels: they are written to the ONNX file; name one with --onnx FILE")
    labels = [] if arguments.labels is None else read_labels(arguments.labels)
    if arguments.share is not None and (onnx or arguments.torch_export):
        raise ConfigError(
            "--share: writes folders, not graphs; leave out --onnx and --torch-export, and "
            "export a folder that it has written"
        )
    missing = [name for name in ONNX if onnx is not None and find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--onnx: needs {', '.join(missing)}; install the extra: pip install "
            "'gestalt-grouping[onnx]'"
        )
    checkpoint = check_target(arguments.target)
    folders: dict[float | None, str] = {None: to}
    if arguments.share is not None:
        folders = read_shares(arguments.share, checkpoint, to)
    if to is not None:
        if checkpoint is None:
            raise ConfigError(
                f"{arguments.target}: --to is for runs of Gestalt; copy an exported folder, and "
                "publish other models by their library"
            )
        for folder in folders.values():
            check_free(Path(folder), option="--to")
    return Checked(labels, folders)


def read_shares(words: str, checkpoint: Path | None, to: str | None) -> dict[float | None, str]:
    """Parse the value of ``--share``.  Returns the folder of each share.

    Raises:
        ConfigError: a share is not a number from 0 to 1, or is named twice; or the weights that the
            run started from may not be opened.
    """
    try:
        shares = [float(word) for word in words.split(",")]
    except ValueError:
        shares = []
    if len(set(shares)) < max(1, len(shares)) or not all(0 <= share <= 1 for share in shares):
        raise ConfigError(
            f"--share {words}: give different numbers from 0 to 1, separated by commas, such as "
            "0,0.5,1"
        )
    if to is None or checkpoint is None:
        raise ConfigError("--share: mixes a run with its start; name a run, and --to DIR")
    run = run_of(checkpoint)
    if not is_own(checkpoint, run):
        raise ConfigError(
            f"--share: would open the start that {checkpoint} names; call it where "
            "lightning_logs has the run"
        )
    start = config_of(checkpoint, run).start
    if start is None or read_start(start).tower:
        raise ConfigError(
            f"--share: the run has start={start or 'null'}, and only a start of the whole model "
            "has all weights to mix with; choose a run from another run, open_clip: or classifier:"
        )
    return {share: to if len(shares) == 1 else f"{to}_{share}" for share in shares}


def run(arguments: Namespace) -> int:
    """Write the requested files, and print each path.  For a graph, also print its largest
    difference from the model at three image sizes.

    Raises:
        ValueError: the model cannot be opened or exported, or the outputs of the graph differ from
            the model's.
    """
    import torch

    from gestalt.encoders.state_dicts import load_weights
    from gestalt.model import DualEncoder
    from gestalt.models.between import read_ends
    from gestalt.models.opening import open_target
    from gestalt.publishing.export import export_checkpoint
    from gestalt.publishing.graph import DenseGraph, trace, write_onnx, write_program
    from gestalt.support.process import tell

    opened = open_target(arguments.target, trusted=arguments.overrides)
    tell(f"model: {opened.origin}")
    opened.model.requires_grad_(False)
    if arguments.to is not None:
        assert isinstance(opened.model, DualEncoder)
        assert opened.trained is not None
        ends = None if arguments.share is None else read_ends(opened)
        for share, folder in arguments.checked.folders.items():
            if ends is not None:
                load_weights(opened.model, ends.mix(share), misfit=f"--share {share}")
            path = export_checkpoint(
                opened.model,
                opened.trained,
                checkpoint=Path(opened.identity["checkpoint"]),
                folder=Path(folder),
                license=arguments.license,
                datasets=arguments.dataset,
                interpolation=ends and {"share": share, **ends.record},
            )
            print(path)
    onnx = arguments.onnx
    torch_export = arguments.torch_export
    if onnx is not None or torch_export is not None:
        graph = DenseGraph(opened.model, pixels=arguments.pixels)
        program = trace(graph)
        labels = arguments.checked.labels
        with torch.no_grad():
            embed = opened.model.embed_text_for_locations
            vectors = embed(labels).tolist() if labels else []
        with_labels = partial(write_onnx, labels=dict(zip(labels, vectors, strict=True)))
        for path, write in ((torch_export, write_program), (onnx, with_labels)):
            if path is not None:
                side = opened.config.image.eval_size
                print(*write(program, Path(path), graph=graph, side=side), path, sep="\n")
    return 0
