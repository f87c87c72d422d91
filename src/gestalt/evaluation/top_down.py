"""Top-down grouping: every location takes the nearest class.  B batch, E shared width, K prompts, h w patch grid, H W pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.evaluation.images import equal_sizes, resized
from gestalt.evaluation.prompts import ClassEmbeddings, TextEmbedder, class_embeddings
from gestalt.evaluation.protocols import TopDownProtocol

VALUES_AT_ONCE = 1 << 25
"""Up-sampled logits that exist at one time (128 MiB in float32): 150 classes at 2000 x 1000 pixels would be 1.2 GB."""

UNNAMED = 255
"""What a location below the threshold is when there is no background class to give it to; no metric counts it, no picture paints it."""


class PatchEmbedder(Protocol):
    """A model with one embedding a location."""

    def embed_patches(self, images: Tensor) -> Tensor:
        """(B, E, h, w), L2-normalised at each location."""


class DenseDualEncoder(PatchEmbedder, TextEmbedder, Protocol):
    """A model that embeds locations and text."""


class TopDown(NamedTuple):
    """What the engine says of one image.

    Attributes:
        prediction: (H, W) uint8, class indices.
        grid: (h, w), the patch grid that it was up-sampled from.
    """

    prediction: Tensor
    grid: tuple[int, int]


@torch.no_grad()
def patch_logits(model: PatchEmbedder, images: Sequence[Tensor], *, prompts: ClassEmbeddings, protocol: TopDownProtocol) -> list[Tensor]:
    """Cosine of every location with every prompt, in float32.

    Args:
        model: in eval mode.
        images: B images, (3, H, W) uint8, each of its own size.
        prompts: K embedded prompts, on the images' device.
        protocol: the size that the images are resized to.

    Returns:
        B maps (K, h, w); equal sizes go through the tower together.
    """
    maps: dict[int, Tensor] = {}
    for positions, stack in equal_sizes([resized(image, protocol=protocol) for image in images]):
        logits = torch.einsum("behw,ke->bkhw", model.embed_patches(stack).float(), prompts.vectors)
        maps.update(zip(positions, logits, strict=True))
    return [maps[position] for position in range(len(images))]


def upsampled_argmax(maps: Tensor, *, size: tuple[int, int], at_once: int = VALUES_AT_ONCE) -> tuple[Tensor, Tensor]:
    """Up-sample maps (K, h, w) bilinearly, corners not aligned, and keep the largest at each pixel.

    A block of maps is up-sampled at a time, so the memory does not grow with K.  Equal values go to the first map.

    Returns:
        The largest values, (H, W) float, and their index in K, (H, W) int64.
    """
    step = max(1, at_once // (size[0] * size[1]))
    best, index = _block_argmax(maps[:step], size=size)
    for start in range(step, len(maps), step):
        value, position = _block_argmax(maps[start : start + step], size=size)
        better = value > best
        best = torch.where(better, value, best)
        index = torch.where(better, position + start, index)
    return best, index


def _block_argmax(maps: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The whole block at once."""
    wide = functional.interpolate(maps[None].contiguous(), size=size, mode="bilinear", align_corners=False)[0]
    return torch.max(wide, dim=0)


def collapse(maps: Tensor, *, prompts: ClassEmbeddings, protocol: TopDownProtocol, size: tuple[int, int]) -> Tensor:
    """Logits (K, h, w) to classes (H, W) uint8: argmax over prompts, prompt to class, background below the threshold."""
    best, index = upsampled_argmax(maps, size=size)
    classes = prompts.class_index[index]
    if protocol.threshold is not None:
        assert prompts.background is not None
        classes = torch.where(best < protocol.threshold, prompts.background, classes)
    return classes.to(torch.uint8)


@torch.no_grad()
def top_down(
    model: PatchEmbedder,
    images: Sequence[Tensor],
    *,
    prompts: ClassEmbeddings,
    protocol: TopDownProtocol,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> list[TopDown]:
    """Segment a batch.

    Args:
        model: in eval mode.
        images: B images, (3, H, W) uint8, each of its own size.
        prompts: the label set, embedded under the same protocol, on the images' device.
        protocol: resizing, background rule.
        sizes: B native sizes (H, W) of the labels; those of the images unless given.
    """
    maps = patch_logits(model, images, prompts=prompts, protocol=protocol)
    sizes = [(image.shape[-2], image.shape[-1]) for image in images] if sizes is None else sizes
    return [
        TopDown(prediction=collapse(logits, prompts=prompts, protocol=protocol, size=size), grid=(logits.shape[-2], logits.shape[-1]))
        for logits, size in zip(maps, sizes, strict=True)
    ]


@dataclass(frozen=True)
class Names:
    """A label set of one's own words: each its own prompt."""

    names: tuple[str, ...]
    background: int | None = None

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """The name, and nothing where the background has none."""
        return tuple(() if index == self.background else (name,) for index, name in enumerate(self.names))

    def digest(self) -> str:
        """The words themselves."""
        return ", ".join(self.names)


@torch.no_grad()
def segment_image(model: DenseDualEncoder, image: Tensor, *, labels: list[str], protocol: TopDownProtocol) -> Tensor:
    """Segment one image (3, H, W) uint8 by names, with a model in eval mode.

    Returns:
        (H, W) uint8 on the model's device: the index in ``labels``; ``UNNAMED`` below the protocol's threshold, if it has one.

    Raises:
        ValueError: no names, or more than 254; an image that is not (3, H, W) uint8.
    """
    if not 1 <= len(labels) < UNNAMED:
        raise ValueError(f"{len(labels)} labels were given, 1 to {UNNAMED - 1} are needed, such as 'dog, cat, grass'")
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"the image is {image.dtype} {tuple(image.shape)}, it should be uint8 (3, H, W)")
    threshold = protocol.background == "threshold"
    words = Names((*labels, "background"), background=len(labels)) if threshold else Names(tuple(labels))
    prompts = class_embeddings(model, words, protocol=protocol)
    mask = top_down(model, [image.to(prompts.vectors.device)], prompts=prompts, protocol=protocol)[0].prediction
    return mask.masked_fill(mask == len(labels), UNNAMED)
