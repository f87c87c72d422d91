"""Clusters of a whole set: fitted to a sample of its tokens, then assigned to every pixel.

B batch, N tokens, D width, n clusters, h w patch grid, H W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.data_modules.image_sets import ImageSet
from gestalt.evaluation.images import Size, resize
from gestalt.losses.gather import shared_by_ranks
from gestalt.measures.grouping.clusters import kmeans_centres, nearness, one_thread
from gestalt.measures.grouping.engine import BottomUp, regions, wide_tokens
from gestalt.measures.matching.protocol import MatchingProtocol
from gestalt.support.arrays import Floats


def draw_tokens(tokens: Tensor, index: int, protocol: MatchingProtocol) -> Tensor:
    """Draw the tokens of an image, out of (N, D), that centres are fitted to; they depend on the
    protocol's seed and the index alone.
    """
    order = np.random.default_rng([protocol.seed, index]).permutation(len(tokens))[
        : protocol.fit_tokens
    ]
    return tokens[torch.from_numpy(np.sort(order))]


def fit_centres(
    model: Any,
    images: ImageSet,
    *,
    chosen: Sequence[int],
    clusters: int,
    protocol: MatchingProtocol,
    device: torch.device,
) -> Floats:
    """Fit centres (m, D) to the tokens of the chosen images, m <= clusters, the same on every rank,
    which all must call it.

    Each rank runs the tower on its share of the images, one at a time, so that no batch depends on
    the number of ranks, and fits to the tokens of all.

    Args:
        model: in eval mode, on the device.
        images: the set.
        chosen: indices of images.
        clusters: n.
        protocol: resizing, tokens, draw, starts.
        device: where the tower is.
    """

    def tokens_of(index: int) -> Floats:
        image = resize(images.sample(index)["image"].to(device), protocol)
        (tokens,) = set_tokens(model, image[None], protocol)
        return draw_tokens(tokens.flatten(1).T, index, protocol).numpy()

    return kmeans_centres(np.concatenate(shared_by_ranks(chosen, tokens_of)), clusters, protocol)


@torch.no_grad()
def set_tokens(model: Any, stack: Tensor, protocol: MatchingProtocol) -> Tensor:
    """Compute the tokens of images of one size: (b, D, h, w) float64 on the CPU.

    Raises:
        ValueError: a token contains NaN or infinity.
    """
    tokens = wide_tokens(model, stack, protocol)
    return functional.normalize(tokens, dim=1) if protocol.normalise else tokens


def cluster(
    model: Any,
    images: Sequence[Tensor],
    *,
    centres: Floats,
    protocol: MatchingProtocol,
    sizes: Sequence[Size],
) -> list[BottomUp]:
    """Find the nearest of the centres (m, D) for every pixel of B images, (3, H, W) uint8 of any
    sizes, at the ``sizes`` of their labels.

    The model must be in eval mode, the protocol the one that the centres were fitted under.
    """

    def compare(stack: Tensor) -> Iterator[Tensor]:
        for tokens in set_tokens(model, stack, protocol):
            with one_thread():
                near = nearness(tokens.flatten(1).T, torch.from_numpy(centres))
            yield near.reshape(-1, *tokens.shape[1:]).float().to(stack.device)

    return regions(images, protocol, sizes, compare)
