"""Bottom-up grouping: every location takes the nearest centre.  B batch, N patches, D width, n groups, h w patch grid, H W pixels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.evaluation.images import equal_sizes, resized
from gestalt.evaluation.protocols import BottomUpProtocol
from gestalt.evaluation.top_down import upsampled_argmax

NO_VARIANCE = 1e-10
"""A component with less than this share of the tokens' sum of squares has none: rounding of float32 leaves 1e-14, of bfloat16 nothing."""


class PatchTokens(Protocol):
    """A model with one token a location."""

    def patch_tokens(self, images: Tensor, *, projected: bool) -> Tensor:
        """(B, D, h, w), as the tower or the projection leaves them."""


class BottomUp(NamedTuple):
    """What the engine says of one image.

    Attributes:
        groups: (H, W) uint8 in [0, n); not every group need have a pixel.
        grid: (h, w), the patch grid that it was up-sampled from.
    """

    groups: Tensor
    grid: tuple[int, int]


def pca_similarity(tokens: Tensor, *, protocol: BottomUpProtocol) -> Tensor:
    """Cosine of every token of one image with its top principal components, largest variance first.

    The eigenvectors are those of the smaller of the Gram matrix (N, N) and the scatter matrix (D, D).

    Args:
        tokens: (N, D) float64 on the CPU.
        protocol: number of groups, centring, sign rule.

    Returns:
        (n, N) float64 in [-1, 1]; rows of zeros for components without variance.
    """
    energy = tokens.square().sum()
    if protocol.centre:
        tokens = tokens - tokens.mean(dim=0)
    wide = tokens.shape[0] <= tokens.shape[1]
    variance, vectors = torch.linalg.eigh(tokens @ tokens.T if wide else tokens.T @ tokens)  # ascending
    real = torch.nonzero(variance > NO_VARIANCE * energy)[:, 0].flip(0)[: protocol.groups]
    scores = (vectors[:, real] * variance[real].sqrt() if wide else tokens @ vectors[:, real]).T
    scores = scores * signs(scores, rule=protocol.sign).unsqueeze(1)
    cosines = scores / tokens.norm(dim=1).clamp_min(torch.finfo(tokens.dtype).tiny)
    return functional.pad(cosines, (0, 0, 0, protocol.groups - len(real)))


def signs(scores: Tensor, *, rule: str) -> Tensor:
    """1 or -1 for each row of scores (k, N), by a rule of ``BottomUpProtocol.sign``.  Returns (k,)."""
    largest = scores.gather(1, scores.abs().argmax(dim=1, keepdim=True))[:, 0]
    decisive = largest if rule == "largest" else scores.pow(3).sum(dim=1)
    return torch.where(decisive < 0, -1.0, 1.0).to(scores.dtype)


METHODS: dict[str, Callable[..., Tensor]] = {"pca": pca_similarity}
"""(N, D) tokens of one image and the protocol to (n, N) similarities with the centres."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread inside: LAPACK cuts an eigenproblem, and a large sum is cut, by the number of threads, which changes the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def image_similarity(tokens: Tensor, *, protocol: BottomUpProtocol) -> Tensor:
    """Similarity of every token (N, D) of one image with every centre of that image.  Returns (n, N)."""
    with one_thread():
        return METHODS[protocol.method](functional.normalize(tokens, dim=1) if protocol.normalise else tokens, protocol=protocol)


@torch.no_grad()
def similarity_maps(model: PatchTokens, images: Sequence[Tensor], *, protocol: BottomUpProtocol) -> list[Tensor]:
    """Similarity of every location with every centre of its own image.

    Tokens leave the accelerator for this: the matrices are small, and float64 on the CPU is there for every accelerator.

    Args:
        model: in eval mode.
        images: B images, (3, H, W) uint8, each of its own size.
        protocol: which tokens, and how they are grouped.

    Returns:
        B maps (n, h, w) float32 on the images' device; equal sizes go through the tower together.

    Raises:
        ValueError: a token that is not a number.
    """
    maps: dict[int, Tensor] = {}
    for positions, stack in equal_sizes([resized(image, protocol=protocol) for image in images]):
        batch = model.patch_tokens(stack, projected=protocol.features == "projected").cpu().double()  # (b, D, h, w)
        if not batch.isfinite().all():
            raise ValueError("the image tower gives tokens that are not finite numbers; such tokens have no principal components")
        for position, tokens in zip(positions, batch, strict=True):
            similarity = image_similarity(tokens.flatten(1).T.contiguous(), protocol=protocol)
            maps[position] = similarity.reshape(-1, *tokens.shape[1:]).float().to(stack.device)
    return [maps[position] for position in range(len(images))]


def grouped(maps: Tensor, *, protocol: BottomUpProtocol, size: tuple[int, int]) -> Tensor:
    """Similarities (n, h, w) to groups (H, W) uint8 at a size."""
    if protocol.upsample == "bilinear":
        return upsampled_argmax(maps, size=size)[1].to(torch.uint8)
    chosen = maps.argmax(dim=0).float()
    return functional.interpolate(chosen[None, None], size=size, mode="nearest-exact")[0, 0].to(torch.uint8)


def bottom_up(
    model: PatchTokens, images: Sequence[Tensor], *, protocol: BottomUpProtocol, sizes: Sequence[tuple[int, int]] | None = None
) -> list[BottomUp]:
    """Group the pixels of each image of a batch.

    Args:
        model: in eval mode.
        images: B images, (3, H, W) uint8, each of its own size.
        protocol: resizing, tokens, method, number of groups.
        sizes: B native sizes (H, W) of the labels; those of the images unless given.
    """
    maps = similarity_maps(model, images, protocol=protocol)
    sizes = [(image.shape[-2], image.shape[-1]) for image in images] if sizes is None else sizes
    return [
        BottomUp(grouped(similarity, protocol=protocol, size=size), grid=(similarity.shape[-2], similarity.shape[-1]))
        for similarity, size in zip(maps, sizes, strict=True)
    ]
