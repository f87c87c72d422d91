"""Training-free evaluation of features: weighted k-NN, and principal components as colours.

N bank images or patches, M queries or drawn images, D width, P patches an image, h w patch grid, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Source: facebookresearch/dino at 45801c3, eval_knn.py, which recommends 20."""

CHUNK = 1024  # queries at a time
MIDDLE = (0.01, 0.99)  # quantiles of a component that become dark and bright


def knn_predict(bank: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """Classify queries (M, D) by a vote of their nearest neighbours by cosine, weighted by exp(cosine / temperature), as (M,) int64.

    The bank is (N, D) with labels (N,) int64; all of it votes if N is below ``NEIGHBOURS``.
    """
    bank, queries = functional.normalize(bank, dim=-1), functional.normalize(queries, dim=-1)
    classes = int(labels.max()) + 1
    winners = []
    for start in range(0, len(queries), CHUNK):
        chunk = queries[start : start + CHUNK]
        cosine, nearest = (chunk @ bank.T).topk(min(NEIGHBOURS, len(bank)), dim=-1)  # (m, k)
        votes = torch.zeros(len(chunk), classes, device=chunk.device).scatter_add_(1, labels[nearest], (cosine / TEMPERATURE).exp())
        winners.append(votes.argmax(dim=-1))
    return torch.cat(winners)


def mean_iou(prediction: Tensor, truth: Tensor) -> float:
    """Return the intersection over union, mean over the classes of ``truth``; both (M,) int64."""
    ious = [((prediction == c) & (truth == c)).sum() / ((prediction == c) | (truth == c)).sum() for c in sorted(set(truth.tolist()))]
    return float(torch.stack(ious).mean())


def patch_labels(maps: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """Return the most frequent class of each patch, at ties the lowest.  (M, H, W) int64 to (M, h * w) int64."""
    count, height, width = maps.shape
    rows, columns = grid
    cells = maps.reshape(count, rows, height // rows, columns, width // columns).transpose(2, 3).flatten(3).flatten(1, 2)
    counts = functional.one_hot(cells, int(maps.max()) + 1).sum(dim=2)  # (M, h * w, classes)
    return counts.argmax(dim=-1)


def principal_colours(tokens: Tensor) -> Tensor:
    """Map the first three principal components of all tokens to red, green and blue.  (M, P, D) to (M, P, 3) uint8.

    Components are joint over the images: a colour means the same in each.  Their sign makes the largest loading positive.

    Raises:
        ValueError: fewer than three channels or tokens.
    """
    flat = tokens.flatten(0, 1).double()
    if min(flat.shape) < 3:
        raise ValueError(f"{flat.shape[0]} tokens of width {flat.shape[1]} have fewer than three principal components")
    centred = flat - flat.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    directions = directions[:3]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    scores = centred @ (directions * largest.sign()).T  # (M * P, 3)
    low, high = scores.quantile(torch.tensor(MIDDLE, dtype=scores.dtype, device=scores.device), dim=0)
    shares = ((scores - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    colours: Tensor = (255 * shares).round().to(torch.uint8)
    return colours.reshape(*tokens.shape[:2], 3)
