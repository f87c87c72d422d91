"""Bottom-up grouping: every location takes the nearest centre, or a group is the region that a head
attends to.  Clusters are bit-identical for any number of threads.

B batch, N patches, D width, n groups, h w patch grid, H W pixels.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.dense.winners import upsampled_argmax
from gestalt.measures.evaluation.images import (
    Size,
    as_map_type,
    by_size,
    finite,
    resize_all,
    size_of,
    sizes_of,
    upsample,
    upsample_nearest,
)
from gestalt.measures.grouping.protocol import BottomUpProtocol, TokensProtocol
from gestalt.support.arrays import Floats

NO_VARIANCE = 1e-10
"""Tokens that differ by less than this share of their sum of squares are equal: rounding of float32
leaves 1e-14, of bfloat16 zero.
"""

ROUNDED = 9
"""Decimals, relative to the largest value, within which rows count as equal: beyond lies the
rounding of an eigenproblem in float64.
"""

UNGROUPED = "its patches cannot be grouped"


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread: the number of threads splits eigenproblems and large sums, which
    changes the last bits.

    NumPy, SciPy and scikit-learn have their own threads, which ``threadpool_limits`` limits where
    they are called.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def kmeans_centres(rows: Floats, clusters: int, protocol: TokensProtocol) -> Floats:
    """Fit centres by k-means (Lloyd) from k-means++ starts, the best of the protocol's ``restarts``
    by the sum of squared distances.

    Args:
        rows: (N, D), at least one.
        clusters: n; fewer are made of fewer distinct rows.
        protocol: has number and seed of the starts.

    Returns:
        (m, D) with m <= n.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    different = np.unique(
        np.round(rows / max(np.abs(rows).max(), np.finfo(np.float64).tiny), ROUNDED), axis=0
    )
    clusters = min(clusters, len(different))
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly equal rows may share a centre
        fitted = KMeans(
            clusters, n_init=protocol.restarts, random_state=protocol.seed, algorithm="lloyd"
        ).fit(rows)
    return fitted.cluster_centers_


def nearness(rows: Tensor, centres: Tensor) -> Tensor:
    """Return minus the squared distance of every row (N, D) to every centre (m, D), (m, N); the
    nearest centre is the largest.
    """
    return (
        2 * centres @ rows.T - centres.square().sum(dim=1, keepdim=True) - rows.square().sum(dim=1)
    )


def kmeans_similarity(tokens: Tensor, protocol: BottomUpProtocol) -> Tensor:
    """Compute the nearness of every token of one image, (N, D) float64 on the CPU, to the centres
    that k-means finds in that image.

    Returns:
        (m, N) float64, at most 0; m is n, or the number of distinct tokens if that is lower.
    """
    assert protocol.groups is not None
    centres = kmeans_centres(tokens.numpy(), protocol.groups, protocol)
    return nearness(tokens, torch.from_numpy(centres))


def spectral_similarity(tokens: Tensor, protocol: BottomUpProtocol) -> Tensor:
    """Compute ``kmeans_similarity`` of the spectral coordinates of one image's tokens, (N, D)
    float64 on the CPU: the L2-normalised rows of the n leading eigenvectors of the normalised
    affinity, without those that have no variance.

    The affinity of two tokens is their cosine, 0 where that is negative, and 1 with itself.

    Source: Ng, Jordan and Weiss 2002 (NIPS 14) for coordinates and k-means; the affinity as in
    Melas-Kyriazi et al. 2022 (arXiv:2205.07839), without its term for colour.
    """
    from scipy.linalg import eigh
    from threadpoolctl import threadpool_limits

    assert protocol.groups is not None
    unit = functional.normalize(tokens - tokens.mean(dim=0), dim=1)
    affinity = (unit @ unit.T).clamp_min(0).fill_diagonal_(1)
    scale = affinity.sum(dim=1).rsqrt()
    size = len(tokens)
    with threadpool_limits(limits=1):
        values, vectors = eigh(
            (scale.unsqueeze(1) * affinity * scale).numpy(),
            subset_by_index=[max(0, size - protocol.groups), size - 1],
        )
    coordinates = torch.from_numpy(vectors[:, values > NO_VARIANCE])
    return kmeans_similarity(functional.normalize(coordinates, dim=1), protocol)


class BottomUp(NamedTuple):
    """The groups of one image.

    Attributes:
        groups: (H, W) uint8 in [0, n); not every group need have a pixel.  Or (n, H, W) bool, masks
            that may overlap.
        grid: (h, w), the patch grid that it was up-sampled from.
    """

    groups: Tensor
    grid: Size


def pca_similarity(tokens: Tensor, protocol: BottomUpProtocol) -> Tensor:
    """Compute the cosine of one image's tokens, (N, D) float64 on the CPU, with their top principal
    components, largest variance first.

    The eigenvectors are those of the smaller of the Gram matrix (N, N) and the scatter matrix
    (D, D).

    Returns:
        (n, N) float64 in [-1, 1]; rows of zeros for components without variance.
    """
    assert protocol.groups is not None
    energy = tokens.square().sum()
    tokens = tokens - tokens.mean(dim=0)
    wide = tokens.shape[0] <= tokens.shape[1]
    # ascending
    variance, vectors = torch.linalg.eigh(tokens @ tokens.T if wide else tokens.T @ tokens)
    real = torch.nonzero(variance > NO_VARIANCE * energy)[:, 0].flip(0)[: protocol.groups]
    scores = (vectors[:, real] * variance[real].sqrt() if wide else tokens @ vectors[:, real]).T
    largest = scores.gather(1, scores.abs().argmax(dim=1, keepdim=True))
    scores = torch.where(largest < 0, -scores, scores)
    cosines = scores / tokens.norm(dim=1).clamp_min(torch.finfo(tokens.dtype).tiny)
    return functional.pad(cosines, (0, 0, 0, protocol.groups - len(real)))


METHODS = {
    "pca": pca_similarity,
    "kmeans": kmeans_similarity,
    "spectral": spectral_similarity,
}
"""(N, D) tokens of one image and the protocol to (m, N) similarities with the centres, m <=
n.  Attention needs no tokens.
"""


def image_similarity(tokens: Tensor, protocol: BottomUpProtocol) -> Tensor:
    """Compute the similarity (m, N) of every token (N, D) of one image with every centre of that
    image; tokens that differ by no more than rounding are one group.
    """
    with one_thread():
        tokens = functional.normalize(tokens, dim=1)
        spread = (tokens - tokens.mean(dim=0)).square().sum()
        if spread <= NO_VARIANCE * tokens.square().sum():
            return tokens.new_zeros(1, len(tokens))
        return METHODS[protocol.method](tokens, protocol)


def wide_tokens(model: DenseModel, stack: Tensor, protocol: TokensProtocol) -> Tensor:
    """Compute the tokens of images of one size: (b, D, h, w) float64 on the CPU.

    Raises:
        ValueError: a token contains NaN or infinity.
    """
    tokens = model.patch_tokens(stack, projected=protocol.features == "projected")
    return finite(tokens.cpu().double(), UNGROUPED)


def choose_largest(maps: Tensor, protocol: TokensProtocol, size: Size) -> Tensor:
    """Return the largest of m maps (m, h, w) at each pixel: up-sampled first, or chosen on the
    grid.  (H, W) in the ``map_type`` of m.
    """
    if protocol.upsample == "bilinear":
        return as_map_type(upsampled_argmax(maps, size), classes=len(maps))
    return upsample_nearest(as_map_type(maps.argmax(dim=0), classes=len(maps)), size)


def attention_masks(maps: Tensor, protocol: BottomUpProtocol, size: Size) -> Tensor:
    """Turn attention (n, h, w) on the CPU into masks (n, H, W) bool, which may overlap."""
    if protocol.upsample == "bilinear":
        return mass_masks(upsample(maps, size), protocol.mass)
    return upsample_nearest(mass_masks(maps, protocol.mass), size)


def mass_masks(maps: Tensor, mass: float) -> Tensor:
    """Mark the fewest largest values of each map (n, h, w), at least 0 and on the CPU, that hold
    the share ``mass`` of its sum; ties go to the first.

    Returns:
        (n, h, w) bool.
    """
    values, order = maps.flatten(1).double().sort(dim=1, descending=True, stable=True)
    with one_thread():
        chosen = values.cumsum(dim=1) - values < mass * values.sum(dim=1, keepdim=True)
    return torch.zeros_like(chosen).scatter(1, order, chosen).reshape(maps.shape)


@torch.no_grad()
def regions(
    images: Sequence[Tensor],
    protocol: TokensProtocol,
    sizes: Sequence[Size],
    compare: Callable[[Tensor], Iterable[Tensor]],
    decide: Callable[..., Tensor] = choose_largest,
) -> list[BottomUp]:
    """Group the pixels of B images, (3, H, W) uint8 of any sizes, at the ``sizes`` of their labels.

    Args:
        images: equal sizes go through the tower together.
        protocol: how they are resized and pixels decided.
        sizes: B of (H, W).
        compare: maps resized images of one size (b, 3, H, W) to the similarity (m, h, w) of every
            location with every centre.
        decide: maps that similarity to groups.
    """
    maps = by_size(resize_all(images, protocol), compare)
    return [
        BottomUp(decide(similarity, protocol, size), grid=size_of(similarity))
        for similarity, size in zip(maps, sizes, strict=True)
    ]


def bottom_up(
    model: DenseModel,
    images: Sequence[Tensor],
    protocol: BottomUpProtocol,
    sizes: Sequence[Size] | None = None,
) -> list[BottomUp]:
    """Group the pixels of B images, (3, H, W) uint8 of any sizes, by the centres of each image or
    the attention of every head; at the ``sizes`` of their labels, by default at the images' own.

    The model must be in eval mode.  Runs on the CPU after the tower, and the groups stay there: the
    matrices are small, and not every accelerator has float64.

    Raises:
        ValueError: a token with NaN or infinity, or a tower without the attention of a class token.
    """

    def compare(stack: Tensor) -> Iterator[Tensor]:
        if protocol.method == "attention":
            yield from finite(model.class_attention(stack).float().cpu(), UNGROUPED)
            return
        for tokens in wide_tokens(model, stack, protocol):
            similarity = image_similarity(tokens.flatten(1).T.contiguous(), protocol)
            yield similarity.reshape(-1, *tokens.shape[1:]).float()

    sizes = sizes or sizes_of(images)
    decide = attention_masks if protocol.method == "attention" else choose_largest
    return regions(images, protocol, sizes, compare, decide)
