"""export: a trained model as a folder that loads anywhere, and its dense image encoder as a
graph.
"""

import re
from argparse import ArgumentParser, Namespace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from gestalt.commands.flags import MODEL, add_code, check_code, check_ending, read_labels
from gestalt.models.finding import check_target
from gestalt.support.files import check_free
from gestalt.support.typed import ConfigError

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""Packages that ``--onnx`` needs: the model, its writer, and the runtime that checks what was
written.
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


def check(arguments: Namespace) -> list[str]:
    """Check what is to be written, and the configuration of the run.  Returns the labels."""
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
    return labels


def run(arguments: Namespace) -> int:
    """Write what was asked for, and print each path; of a graph, its largest difference to the
    model at three sizes.

    Raises:
        ValueError: the model cannot be opened or exported, or a graph differs from it.
    """
    import torch

    from gestalt.model import DualEncoder
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
        folder = export_checkpoint(
            opened.model,
            opened.trained,
            checkpoint=Path(opened.identity["checkpoint"]),
            folder=Path(arguments.to),
            license=arguments.license,
            datasets=arguments.dataset,
        )
        print(folder)
    onnx = arguments.onnx
    torch_export = arguments.torch_export
    if onnx is not None or torch_export is not None:
        graph = DenseGraph(opened.model, pixels=arguments.pixels)
        program = trace(graph)
        labels = arguments.checked
        with torch.no_grad():
            embed = opened.model.embed_text_for_locations
            vectors = embed(labels).tolist() if labels else []
        with_labels = partial(write_onnx, labels=dict(zip(labels, vectors, strict=True)))
        for path, write in ((torch_export, write_program), (onnx, with_labels)):
            if path is not None:
                side = opened.config.image.eval_size
                print(*write(program, Path(path), graph=graph, side=side), path, sep="\n")
    return 0
