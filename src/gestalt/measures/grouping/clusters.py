"""Clusters of tokens: k-means and spectral clustering, bit-identical for any number of threads.  N
tokens, D width, n clusters.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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
    if _all_equal(tokens):
        return tokens.new_zeros(1, len(tokens))
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
    if _all_equal(tokens):
        return tokens.new_zeros(1, len(tokens))
    centred = tokens - tokens.mean(dim=0) if protocol.centre else tokens
    unit = functional.normalize(centred, dim=1)
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


def _all_equal(tokens: Tensor) -> bool:
    """Return True if the tokens differ by no more than rounding."""
    return bool((tokens - tokens.mean(dim=0)).square().sum() <= NO_VARIANCE * tokens.square().sum())
