"""Export the dense image encoder as a graph that runs without Gestalt, with ``torch.export`` or as
ONNX, and check it against the model.

B batch size, E embedding width, h w patch grid, H W pixels.
"""

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.encoders.dense_model import DenseModel, maps_of
from gestalt.measures.evaluation.protocols import ImageProtocol
from gestalt.model import DualEncoder
from gestalt.support.files import Fields, replacing

MAX_DIFFERENCE = 1e-4
"""Maximum difference between the outputs of the graph and of the model, which are vectors of length
1.
"""

MAX_IMAGES, MAX_LOCATIONS = 4096, 1024
"""Maximum batch size of a graph, and maximum number of patches on each side of its grid."""

NAMES = ("dense", "pooled")
MAX_BYTES = 2**31  # size limit of a protobuf file


class DenseGraph(nn.Module):
    """Module that maps pixels to an embedding of each patch and an embedding of the image, both
    L2-normalised.

    Args:
        model: model in eval mode.  The text tower of a dual encoder is left out.
        pixels: type of the input, "uint8" in [0, 255], or "float" in [0, 1], which is rounded to
            the 256 levels that the model reads.
    """

    def __init__(self, model: DenseModel, *, pixels: Literal["uint8", "float"] = "uint8") -> None:
        super().__init__()
        if isinstance(model, DualEncoder):  # else the file has unused weights
            model = copy.copy(model)
            model._modules = {name: part for name, part in model._modules.items() if name != "text"}
        self.model = model
        self.pixels = pixels

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images (B, 3, H, W).  Returns (B, E, h, w) and (B, E)."""
        images = (
            pixels
            if self.pixels == "uint8"
            else pixels.mul(255).round().clamp(0, 255).to(torch.uint8)
        )
        tokens = self.model.tokens(images)
        locations = functional.normalize(self.model.locations(tokens), dim=-1)
        pooled = functional.normalize(self.model.head(tokens), dim=-1)
        return maps_of(tokens._replace(parts=locations)), pooled

    def example(self, batch: int, *, rows: int, columns: int) -> Tensor:
        """Return random pixels, (B, 3, H, W), for a grid of ``rows`` x ``columns`` patches.  The
        sizes are the seed.
        """
        down, across = self.model.patch_stride
        images = torch.randint(
            256,
            (batch, 3, rows * down, columns * across),
            dtype=torch.uint8,
            generator=torch.Generator().manual_seed(batch),
        )
        return images if self.pixels == "uint8" else images / 255


def trace(graph: DenseGraph) -> torch.export.ExportedProgram:
    """Trace a graph with dynamic batch size, height and width.  Sides are multiples of the stride,
    and at least two patches.

    Raises:
        ValueError: the computation of the model depends on values, or works for only one size.
    """
    down, across = graph.model.patch_stride
    batch = torch.export.Dim("batch", min=1, max=MAX_IMAGES)
    rows, columns = (
        torch.export.Dim(name, min=2, max=MAX_LOCATIONS) for name in ("rows", "columns")
    )
    shapes = {"pixels": {0: batch, 2: down * rows, 3: across * columns}}
    with (
        _refused("torch.export cannot trace this model"),
        torch.no_grad(),
        _same_padding_of_multiples(),
    ):
        program = torch.export.export(
            graph, (graph.example(2, rows=5, columns=7),), dynamic_shapes=shapes
        )
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # has the paths of the source files on this machine
    return program


@contextmanager
def _refused(complaint: str) -> Iterator[None]:
    """Turn any error of torch or of a runtime into a one-line ValueError.

    Within the context, torch does not warn, and does not print a graph that it cannot trace.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            yield
    except Exception as error:
        # Tracer, serialiser and runtimes raise many types of errors.  Each means that this model
        # cannot be exported.
        # the other lines are about internals
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"{complaint}: {first[:300]}") from error
    finally:
        logging.disable(before)


@contextmanager
def _same_padding_of_multiples() -> Iterator[None]:
    """Within the context, timm computes TensorFlow's "same" padding with a formula that requires
    sides to be multiples of the convolution's stride.

    The sides of a traced image are multiples of the model's stride, so the sides of each feature
    map are multiples of the convolution's stride. With timm's general formula, the size of each
    layer is an expression that contains the expressions of all layers below it; EfficientNet-Lite0
    was not traced in ten minutes.
    """
    from timm.layers import padding

    check: Any = torch._check

    def get_same_padding(x: int, kernel_size: int, stride: int, dilation: int) -> int:
        check(x % stride == 0)
        return max((kernel_size - 1) * dilation + 1 - stride, 0)

    general = padding.get_same_padding
    padding.get_same_padding = get_same_padding
    try:
        yield
    finally:
        padding.get_same_padding = general


def write_program(
    program: torch.export.ExportedProgram, path: Path, *, graph: DenseGraph, side: int
) -> list[str]:
    """Compare a program with the model, and write it as a file for ``torch.export.load``.  Returns
    the lines of ``compare``.
    """
    with replacing(path) as partial:
        with _refused("torch.export cannot write this model"), partial.open("wb") as file:
            torch.export.save(program, file)
        with partial.open("rb") as file:
            return compare(torch.export.load(file).module(), graph, side=side, name=path.name)


AXES = {
    "pixels": ("batch", "channels", "height", "width"),
    "dense": ("batch", "embedding", "rows", "columns"),
    "pooled": ("batch", "embedding"),
}
"""Names of the axes of a graph's input and outputs.  An ONNX file names the dynamic axes."""


def preprocessing(graph: DenseGraph, *, side: int) -> Fields:
    """Describe as JSON how to prepare a picture for the graph, and which steps are part of the
    graph.
    """
    tower: Any = getattr(graph.model, "image_tower", graph.model)
    usual = ImageProtocol(name="square", input_size=side)
    return {
        "size": [side, side],
        "multiple_of": list(graph.model.patch_stride),
        "interpolation": usual.interpolation,
        "antialias": usual.antialias,
        "colour_order": "RGB",
        "value_range": [0, 255] if graph.pixels == "uint8" else [0, 1],
        "mean": tower.mean.flatten().tolist(),
        "std": tower.std.flatten().tolist(),
        "normalised_by": "the graph",
    }


def write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    *,
    graph: DenseGraph,
    side: int,
    labels: Fields | None = None,
) -> list[str]:
    """Compare an ONNX graph in onnxruntime with the model, and write it to a file.  Returns the
    lines of ``compare``.

    The file names the dynamic axes of its input and outputs. Its metadata contain, as JSON, the
    ``preprocessing`` and, if ``labels`` maps labels to embeddings, the ``labels`` and the
    ``label_embeddings``, (K, E).

    Raises:
        ValueError: the weights are too large, ONNX does not support an operation, or the outputs of
            the file differ from the model's.
    """
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size >= MAX_BYTES:
        raise ValueError(
            f"--onnx: the weights are {size / 2**30:.1f} GiB, and an ONNX file holds less than 2; "
            "write --torch-export FILE"
        )
    import onnxruntime

    notes: Fields = {"preprocessing": preprocessing(graph, side=side)}
    if labels:
        notes |= {"labels": [*labels], "label_embeddings": [*labels.values()]}
    with replacing(path) as partial:
        with _refused("--onnx: this model has no ONNX form"):
            written: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["pixels"],
                output_names=list(NAMES),
                verbose=False,
            )
            ends = [*written.model.graph.inputs, *written.model.graph.outputs]
            for value, names in zip(ends, AXES.values(), strict=True):
                sizes = zip(value.shape, names, strict=True)
                value.shape = type(value.shape)(
                    size if isinstance(size, int) else name for size, name in sizes
                )
            written.model.metadata_props.update({key: json.dumps(notes[key]) for key in notes})
            written.save(str(partial))
            session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])

        def run(pixels: Tensor) -> list[Tensor]:
            return [
                torch.from_numpy(output)
                for output in session.run(list(NAMES), {"pixels": pixels.numpy()})
            ]

        return compare(run, graph, side=side, name=path.name)


@torch.no_grad()
def compare(
    run: Callable[[Tensor], Sequence[Tensor]], graph: DenseGraph, *, side: int, name: str
) -> list[str]:
    """Compare a written graph with the model at three sizes.

    Args:
        run: function that runs the written graph.
        graph: the model.
        side: side of the model's square images in pixels.
        name: name of the file, for messages.

    Returns:
        A line for each size, with the largest differences.

    Raises:
        ValueError: a difference is above ``MAX_DIFFERENCE``, or shapes differ.
    """
    down, across = graph.model.patch_stride
    rows, columns = max(2, side // down), max(2, side // across)  # the graph needs two or more
    lines = []
    for batch, height, width in (
        (1, rows, columns),
        (2, rows, 2 * columns),
        (3, rows + 1, columns + 3),
    ):
        pixels = graph.example(batch, rows=height, columns=width)
        text = f"{name}: {batch} x {pixels.shape[2]} x {pixels.shape[3]} pixels"
        with _refused(f"{text}: the graph cannot run at this size"):
            found, expected = run(pixels), graph(pixels)
        shapes, expected_shapes = (
            [tuple(output.shape) for output in outputs] for outputs in (found, expected)
        )
        if shapes != expected_shapes:
            raise ValueError(f"{text}: the graph gives {shapes}, another shape than the model")
        differences = [
            (theirs - ours).abs().max() for theirs, ours in zip(found, expected, strict=True)
        ]
        listed = [f"{value:.1e} {output}" for value, output in zip(differences, NAMES, strict=True)]
        text += f", largest difference to the model {', '.join(listed)}"
        if not all(value <= MAX_DIFFERENCE for value in differences):  # also true for nan
            raise ValueError(f"{text}: above {MAX_DIFFERENCE:g}, so the file was not written")
        lines.append(text)
    return lines
