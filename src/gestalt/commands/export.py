"""export: a trained model as a folder that loads anywhere, and its dense image encoder as a
graph.
"""

from argparse import Namespace
from pathlib import Path

from gestalt.commands.process import quiet
from gestalt.commands.stopping import tell
from gestalt.model import DualEncoder
from gestalt.models.opening import open_target
from gestalt.publishing.export import export_checkpoint
from gestalt.publishing.graph import DenseGraph, trace, write_onnx, write_program


def run(arguments: Namespace) -> int:
    """Write what was asked for, and print each path; of a graph, its largest difference to the
    model at three sizes.

    Raises:
        ValueError: the model cannot be opened or exported, or a graph differs from it.
    """
    quiet()
    opened = open_target(arguments.target)
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
        for path, write in ((torch_export, write_program), (onnx, write_onnx)):
            if path is not None:
                side = opened.config.image.eval_size
                print(*write(program, Path(path), graph=graph, side=side), path, sep="\n")
    return 0
