"""What features know without training anything on them: weighted k-NN, and principal components as colours.

N bank images, M queries or shown images, D width, P patches an image.
"""

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Source: facebookresearch/dino at 45801c3, eval_knn.py, which says that 20 usually works best."""

CHUNK = 1024  # queries at a time
MIDDLE = (0.01, 0.99)  # quantiles of a component that become dark and bright


def knn_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor) -> float:
    """Share of queries whose label wins the vote of their nearest neighbours by cosine, each with weight exp(cosine / temperature).

    Args:
        bank: (N, D).
        bank_labels: (N,) int64; with N below ``NEIGHBOURS`` all vote.
        queries: (M, D).
        query_labels: (M,) int64.
    """
    bank, queries = functional.normalize(bank, dim=-1), functional.normalize(queries, dim=-1)
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    right = 0
    for start in range(0, len(queries), CHUNK):
        part, truth = queries[start : start + CHUNK], query_labels[start : start + CHUNK]
        cosine, nearest = (part @ bank.T).topk(min(NEIGHBOURS, len(bank)), dim=-1)  # (m, k)
        votes = torch.zeros(len(part), classes, device=part.device).scatter_add_(1, bank_labels[nearest], (cosine / TEMPERATURE).exp())
        right += int((votes.argmax(dim=-1) == truth).sum())
    return right / len(queries)


def principal_colours(tokens: Tensor) -> Tensor:
    """The first three principal components of all tokens together, as red, green and blue: (M, P, D) to (M, P, 3) uint8.

    Joint over the images, so that a colour means the same in each.  A component's sign is that which makes its largest loading positive.

    Raises:
        ValueError: fewer than three channels or tokens.
    """
    flat = tokens.flatten(0, 1).double()
    if min(flat.shape) < 3:
        raise ValueError(f"{flat.shape[0]} tokens of width {flat.shape[1]} have no three principal components")
    centred = flat - flat.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    directions = directions[:3]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    scores = centred @ (directions * largest.sign()).T  # (M * P, 3)
    low, high = scores.quantile(torch.tensor(MIDDLE, dtype=scores.dtype, device=scores.device), dim=0)
    shares = ((scores - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    colours: Tensor = (255 * shares).round().to(torch.uint8)
    return colours.reshape(*tokens.shape[:2], 3)
