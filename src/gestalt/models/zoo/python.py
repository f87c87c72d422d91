"""A model of your own code, named ``python:package.module:factory``.  B batch, N locations, D
width, E shared width, h w grid of locations.

The module is imported and its factory called without arguments: code runs, by design.  A model is
therefore named so on the command line alone; a configuration cannot name one.
"""

import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from gestalt.encoders.dense_model import DenseModel, maps_of, tokens_of
from gestalt.encoders.last_block import LastBlock
from gestalt.encoders.towers import check_has, make, read_numbers
from gestalt.encoders.weights import WeightsOrigin
from gestalt.models.zoo.adapter import Adapter
from gestalt.models.zoo.kinds import Opened
from gestalt.support.files import file_hash
from gestalt.support.plugins import import_code
from gestalt.tokens import Pair, Tokens

NEEDED = ("encode", "mean", "size", "std", "stride")
"""Attributes that a factory's module has; ``head``, ``locations``, ``embed_text``, ``last_block``
and ``logit_scale`` are optional.
"""


class PythonModel(Adapter):
    """A module with the attributes of ``NEEDED``, as docs/evaluation.md describes them."""

    def encode(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W) by the module's ``encode``: a map (B, D, h, w) or
        tokens (B, N, D) in row-major order, or a pair of summary (B, S) and these.
        """
        output = self.model.encode(pixels)
        summary, maps = (None, output) if isinstance(output, Tensor) else output
        grid = self.grid(*pixels.shape[-2:])
        found = tuple(maps.shape[2:]) if maps.ndim == 4 else maps.shape[1]
        if found not in (grid, grid[0] * grid[1]):
            raise ValueError(
                f"{self.image_origin.source}: encode gives {found} locations, expected {grid} by "
                "its stride"
            )
        return tokens_of(maps, grid, summary=summary)

    def head(self, tokens: Tokens) -> Tensor:
        """Pool by the module's ``head`` of summary and map; without one, take the summary, or the
        mean location.
        """
        if not hasattr(self.model, "head"):
            return tokens.parts.mean(dim=1) if tokens.summary is None else tokens.summary
        return self.model.head(tokens.summary, maps_of(tokens))

    def locations(self, tokens: Tokens) -> Tensor:
        """Project locations by the module's ``locations`` of the map (B, D, h, w); without one,
        take them as they are: (B, N, E).
        """
        if not hasattr(self.model, "locations"):
            return tokens.parts
        return self.model.locations(maps_of(tokens)).flatten(2).transpose(1, 2)

    def text_features(self, texts: list[str]) -> Tensor:
        """Embed K texts by the module's ``embed_text``, (K, E)."""
        return self.model.embed_text(texts)

    def last_block(self) -> LastBlock | None:
        """Return the module's ``last_block``; None if it has none."""
        return self.model.last_block() if hasattr(self.model, "last_block") else None


FUNCTIONS = {"locations": 4, "pooled": 2, "texts": 2}
"""Names of the functions of a ``FunctionModel`` -> number of axes of what each returns."""

Function = Callable[[Any], Tensor]
Functions = Mapping[str, Function]


def check_functions(names: Iterable[str]) -> None:
    """Raise a ValueError unless the names are those of ``FUNCTIONS``."""
    if {*names} != {*FUNCTIONS}:
        given, needed = ", ".join(map(str, names)), ", ".join(FUNCTIONS)
        raise ValueError(f"model: its functions are named {given}; give {needed}")


class FunctionModel(PythonModel):
    """A model given by three functions; its tokens are the vectors of its locations, in the shared
    space.

    Args:
        functions: by the names of ``FUNCTIONS``: ``locations`` maps images (B, 3, H, W) float32 in
            [0, 1] to (B, E, h, w), ``pooled`` to (B, E), and ``texts`` maps a list of K texts to
            (K, E); none need be normalised.
        size: side in pixels of the image whose grid gives the stride.

    Raises:
        ValueError: other names; or, when a function is called, another shape than it should return.
    """

    def __init__(self, functions: Functions, *, size: int) -> None:
        check_functions(functions)
        super().__init__(
            dict(functions),
            stride=(0, 0),
            size=size,
            mean=[0.0] * 3,
            std=[1.0] * 3,
            origin=WeightsOrigin("python", "functions"),
        )
        del self.patch_stride  # found at its first use
        self._width: int | None = None  # E, once a function has returned

    @cached_property
    def patch_stride(self) -> Pair:  # type: ignore[override]
        """Pixels from one location to the next, (down, across), by the grid of a black image."""
        black = self.mean.new_zeros(1, 3, self.size, self.size)
        height, width = self._call("locations", black).shape[2:]
        if not (0 < height <= self.size and 0 < width <= self.size):
            raise ValueError(
                f"locations: gives a grid of {height} x {width} for an image of {self.size} px; "
                "give one vector for each patch"
            )
        return self.size // height, self.size // width

    def encode(self, pixels: Tensor) -> Tokens:
        """Encode pixels (B, 3, H, W) by ``locations``."""
        maps = self._call("locations", pixels)
        return tokens_of(maps, (maps.shape[2], maps.shape[3]))

    def embed_image(self, images: Tensor) -> Tensor:
        """Embed images by ``pooled``.  (B, 3, H, W) uint8 to (B, E), L2-normalised."""
        return functional.normalize(self._call("pooled", self.normalise(images)), dim=-1)

    def text_features(self, texts: list[str]) -> Tensor:
        """Embed K texts by ``texts``, (K, E)."""
        return self._call("texts", texts)

    def _call(self, name: str, given: Any) -> Tensor:
        """Return what a function makes of images or texts, once its shape is checked."""
        try:
            result = self.model[name](given)
        except AttributeError as error:  # would become the lack of ``patch_stride``
            raise RuntimeError(f"model: {name} raised {error!r}") from error
        axes, shape = FUNCTIONS[name], tuple(getattr(result, "shape", ()))
        if len(shape) != axes or shape[:2] != (len(given), self._width or shape[1]):
            raise ValueError(
                f"model: {name} returns a {type(result).__name__} of shape {shape}, expected "
                f"{axes} axes, the first two of {len(given)} and {self._width or 'E'}"
            )
        self._width = shape[1]
        return result


def open_model(name: str) -> Opened:
    """Import the module and call its factory; describe both for the record.

    Args:
        name: ``package.module:factory``; the factory returns a ``DenseModel`` with a ``size``, or
            an ``nn.Module`` with the parts of ``NEEDED``.

    Raises:
        ValueError: the module has no such factory, it raises, or what it returns cannot be scored.
    """
    said = f"python:{name}"
    module: Any = make(import_code(said), said=said)
    is_dense = isinstance(module, DenseModel)
    check_has(module, *(("size",) if is_dense else NEEDED), said=said, page="evaluation")
    opened = module if is_dense else _adapt(module, said)
    return Opened(opened.eval(), _describe(name), opened.size)


def _adapt(module: Any, said: str) -> PythonModel:
    stride, size, mean, std = read_numbers(module, "size", said=said)
    return PythonModel(
        module,
        stride=stride,
        size=size,
        mean=mean,
        std=std,
        origin=WeightsOrigin("python", said),
        has_text=hasattr(module, "embed_text"),
        logit_scale=getattr(module, "logit_scale", None),
    )


def _describe(name: str) -> dict[str, Any]:
    """Return package, version, name and the hash of the module's file, for the record."""
    top = name.partition(".")[0].partition(":")[0]
    try:
        version: str | None = importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        version = None
    file = getattr(sys.modules[import_code(f"python:{name}").__module__], "__file__", None)
    return {
        "library": top,
        "version": version,
        "architecture": name,
        "file_sha256": file_hash(Path(file)) if file else None,
    }
