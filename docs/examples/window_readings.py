"""Two dense readings as plug-ins: one reads earlier layers, one all windows of an image together.

    cd docs/examples
    gestalt eval open_clip:ViT-B-16-quickgelu:openai evaluation.protocol=sclip-336 \\
        evaluation.reading=python:window_readings:sc_clip \\
        "evaluation.benchmarks=[pascal_voc]" benchmark_root=DIR

``global_local`` needs a proxy model, by default DINO's ViT-B/8, as the protocol
sclip-336/proxyclip has it.

Both give the numbers of their authors' code on random weights, in float32; the published ones were
never run.  Sources: SuleBai/SC-CLIP at 0417ba9, clip/model.py (arXiv:2411.15869), and
2btlFe/GLA-CLIP at ba74915, myutils.py and predict.sh (arXiv:2603.23030).
"""

import math

import torch
from torch.nn import functional

from gestalt.encoders.readings import Reading, attention, resize_values


def calibrate(windows):
    """Read each window with the layers before the last, SC-CLIP's: (W, T, D)."""
    return torch.stack([_calibrate(windows, number) for number in range(len(windows.tokens))])


def _calibrate(windows, number):
    prefix, tokens = windows.block.prefix, windows.tokens[number]
    layers = [layer[number] for layer in windows.layers]
    outliers = _outliers(tokens[prefix:])
    middle = _cosines(_without(outliers, layers[8][prefix:], windows.grid))
    early = _cosines(layers[3][prefix:])
    sharp = 3 * (middle - middle.mean())
    sharp = sharp.masked_fill(sharp < 0, -math.inf).softmax(dim=-1)

    def attend(tokens):
        heads = windows.heads(tokens[None])
        keys, values = heads.key[:, :, prefix:], heads.value[:, :, prefix:]
        values = (sharp + attention(keys, keys, heads.scale)) / 2 @ values
        patches = windows.block.merge(values, tokens[None])[0] + 0.3 * tokens[:1]
        return _aggregate(patches, early)

    patches = _aggregate(_without(outliers, tokens[prefix:], windows.grid), middle)
    last = attend(torch.cat([tokens[:prefix], patches]))
    return torch.cat([tokens[:prefix], last + attend(sum(layers[3:10]))])


def _outliers(patches, neighbours=30, share=0.05):
    """Find the patches (N, D) with the largest local outlier factors: (N,)."""
    squared = torch.cdist(patches, patches, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    distances, near = squared.topk(neighbours + 1, largest=False)
    reach = torch.maximum(distances[:, 1:], distances[:, -1:]).mean(dim=1)
    factors = (reach[:, None] / reach[near[:, 1:]]).mean(dim=1)
    return factors > factors.quantile(1 - share)


def _without(outliers, patches, grid):
    """Replace outliers by the mean of the other patches around them: (N, D)."""
    good = (~outliers).to(patches).reshape(1, *grid)
    sums, counts = (
        functional.avg_pool2d(maps, 3, stride=1, padding=1).flatten(1).T
        for maps in (patches.T.reshape(-1, *grid) * good, good)
    )
    return torch.where(outliers[:, None] & (counts > 0), sums / counts, patches)


def _cosines(patches):
    unit = functional.normalize(patches, dim=1)
    return unit @ unit.T


def _aggregate(patches, cosines):
    """Average patches (N, D) by those cosines (N, N) that are at least 0.4."""
    weights = cosines.masked_fill(cosines < 0.4, 0)
    return weights / (weights.sum(dim=1, keepdim=True) + 1e-6) @ patches


def attend_globally(windows):
    """Attend by a proxy model's features over the values of all windows, GLA-CLIP's: (W, T, D)."""
    prefix, features = windows.block.prefix, windows.features
    keys = functional.normalize(features.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
    cosines = keys @ keys.T
    for _ in range(2):
        near = (cosines > 0.55).to(keys)
        near += torch.diag((near.sum(dim=1) == 0).to(keys))
        count = near.sum(dim=1, keepdim=True)
        cosines = functional.normalize(near @ keys / (count + 1e-6), dim=1) @ keys.T
    shift = (1 + 0.3 * math.log1p(len(features))) * cosines.mean(dim=1, keepdim=True).clamp(min=0)
    sharp = (cosines - shift) * (1 + 30 / count)
    limit = sharp.amax(dim=1, keepdim=True).clamp(max=0)
    weights = sharp.masked_fill(sharp < limit, -math.inf).softmax(dim=1)
    values = windows.heads(windows.tokens).value
    wide = resize_values(values[:, :, prefix:], features, grid=windows.grid)  # (W, G, S, d)
    attended = weights @ wide.transpose(0, 1).flatten(1, 2)  # (G, W S, d)
    attended = attended.unflatten(1, (len(values), -1)).transpose(0, 1)
    return windows.block.merge(torch.cat([values[:, :, :prefix], attended], dim=2), windows.tokens)


sc_clip = Reading(None, whole=False, compute=calibrate)
global_local = Reading(None, whole=False, compute=attend_globally, needs_proxy=True)
