"""Slow references of the field's protocols: float64 NumPy, one image, one window, one class at a
time, written from what their code does.

Numbers stand here as the repositories have them, not as our presets do.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

OPEN_CV = {"short": 448, "long": 2048, "window": 448, "stride": 224}
SCLIP = {
    "short": 336,
    "long": 2048,
    "window": 224,
    "stride": 112,
    "merge": "cosine",
    "final": "probability",
    "scale": 40.0,
    "bound": 0.0,
}
CLEARCLIP = {**SCLIP, "short": 448, "window": 448, "stride": 224, "scale": 50.0}
FIRST_VARIANTS = {"sclip-336": "sclip-336/sclip", "clearclip-448": "clearclip-448/clearclip"}
"""Families that go by the name of their first variant too."""
TCL_RINGS = (1, 2, 4, 8, 12, 24)


@dataclass(frozen=True)
class Rules:
    """Rules by which a repository segments an image."""

    short: int
    long: int | None
    window: int | None
    stride: int | None
    merge: str = "cosine"  # cosine, softmax, sigmoid, groupvit
    final: str = "argmax"  # argmax, probability, constant, groupvit
    scale: float = 1.0
    bias: float = 0.0
    bound: float | None = None
    area: float | None = None
    grid_to_window: str = "half"  # half, corners, nearest
    remainder: str = "stretch"  # stretch, drop
    pamr: tuple[str, tuple[int, ...]] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


RULES = {
    "mmseg-448": Rules(**OPEN_CV),
    "mmseg-448/groupvit": Rules(
        **OPEN_CV, merge="groupvit", final="groupvit", bound=0.95, grid_to_window="nearest"
    ),
    "mmseg-448/tcl": Rules(
        **OPEN_CV,
        merge="sigmoid",
        final="constant",
        scale=10.0,
        bias=-2.5,
        bound=0.4,
        pamr=("grid", TCL_RINGS),
    ),
    "mmseg-448/talk2dino": Rules(
        **OPEN_CV, merge="sigmoid", final="constant", bound=0.55, grid_to_window="corners"
    ),
    "sclip-336/sclip": Rules(**SCLIP),
    "sclip-336/naclip": Rules(**SCLIP, remainder="drop", pamr=("label", (8, 16))),
    "sclip-336/proxyclip": Rules(**{**SCLIP, "window": 336}),
    "clearclip-448/clearclip": Rules(**CLEARCLIP),
    "clearclip-448/maskclip": Rules(**CLEARCLIP),
    "dinotxt-512": Rules(short=512, long=None, window=384, stride=192, merge="softmax"),
    "tips-448": Rules(short=448, long=None, window=448, stride=336, merge="softmax"),
}


def target(height: int, width: int, rules: Rules) -> tuple[int, int]:
    """Size after the resize: mmcv's rule with a limit, the notebooks' without."""
    if rules.long is None:
        if width < height:
            return int(rules.short * height / width), rules.short
        return rules.short, int(rules.short * width / height)
    factor = min(rules.long / max(height, width), rules.short / min(height, width))
    return int(height * float(factor) + 0.5), int(width * float(factor) + 0.5)


def stretch(values: np.ndarray, size: tuple[int, int], how: str = "half") -> np.ndarray:
    """Interpolate (c, h, w) to (c, *size), row by row and then column by column."""
    rows = np.empty((values.shape[0], size[0], values.shape[2]))
    for y in range(size[0]):
        a, b, s = _taps(y, values.shape[1], size[0], how)
        rows[:, y] = values[:, a] * (1 - s) + values[:, b] * s
    out = np.empty((values.shape[0], *size))
    for x in range(size[1]):
        a, b, s = _taps(x, values.shape[2], size[1], how)
        out[:, :, x] = rows[:, :, a] * (1 - s) + rows[:, :, b] * s
    return out


def _taps(place: int, n: int, m: int, how: str) -> tuple[int, int, float]:
    if how == "nearest":
        cell = min(int((place + 0.5) * n / m), n - 1)
        return cell, cell, 0.0
    at = (
        place * (n - 1) / (m - 1)
        if how == "corners" and m > 1
        else max((place + 0.5) * n / m - 0.5, 0.0)
    )
    low = min(math.floor(at), n - 1)
    return low, min(low + 1, n - 1), at - low


def softmax(values: np.ndarray) -> np.ndarray:
    """Over the first axis."""
    powers = np.exp(values - values.max(axis=0))
    return powers / powers.sum(axis=0)


def refine(image: np.ndarray, maps: np.ndarray, rings: tuple[int, ...]) -> np.ndarray:
    """PAMR: image (3, h, w), maps (c, h, w)."""
    h, w = image.shape[1:]
    places = [(d * y, d * x) for d in rings for y in (-1, 0, 1) for x in (-1, 0, 1)]

    def shifted(values: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        rows = np.clip(np.arange(h) + place[0], 0, h - 1)
        columns = np.clip(np.arange(w) + place[1], 0, w - 1)
        return values[:, rows][:, :, columns]

    deviation = np.stack([shifted(image, place) for place in places]).std(axis=0, ddof=1)
    around = [place for place in places if place != (0, 0)]
    weights = softmax(
        np.stack(
            [
                (-np.abs(image - shifted(image, place)) / (1e-8 + 0.1 * deviation)).mean(axis=0)
                for place in around
            ]
        )
    )
    for _ in range(10):
        maps = sum(
            weight * shifted(maps, place) for weight, place in zip(weights, around, strict=True)
        )
    return maps


class Window:
    """The scores of one window."""

    def __init__(self, model: Any, pixels: torch.Tensor, text: np.ndarray, rules: Rules) -> None:
        self.size = (pixels.shape[1], pixels.shape[2])
        self.pixels = pixels.numpy().astype(np.float64)
        patch = model.patch_stride[0]
        if rules.remainder == "drop" and min(self.size) >= patch:
            pixels = pixels[:, : self.size[0] // patch * patch, : self.size[1] // patch * patch]
        else:
            fit = [math.ceil(side / patch) * patch for side in self.size]
            if tuple(fit) != self.size:
                wide = torch.nn.functional.interpolate(
                    pixels[None].float(), size=fit, mode="bicubic", align_corners=False
                )
                pixels = wide[0].round().clamp(0, 255).to(torch.uint8)
        self.features = model.embed_patches(pixels[None])[0].numpy().astype(np.float64)
        self.cosines = np.einsum("ehw,ke->khw", self.features, text)
        self.text = text

    def scores(self, rules: Rules, *, logit_scale: float) -> np.ndarray:
        """(m, height, width) of the window."""
        grid = self.cosines
        if rules.merge == "sigmoid":
            grid = 1 / (1 + np.exp(-(rules.scale * grid + rules.bias)))
        if rules.merge == "groupvit":
            grid = self._affinity(rules, logit_scale)
        if rules.pamr and rules.pamr[0] == "grid":
            grid = refine(stretch(self.pixels, grid.shape[1:], "corners"), grid, rules.pamr[1])
        wide = stretch(grid, rules.extra.get("size") or self.size, rules.grid_to_window)
        return softmax(wide) if rules.merge == "softmax" else wide

    def _affinity(self, rules: Rules, scale: float) -> np.ndarray:
        logits = self.cosines * scale
        mean = self.features.mean(axis=(1, 2))
        chosen = np.argsort(-(self.text @ (mean / np.linalg.norm(mean))), kind="stable")[:5]
        few = np.full_like(logits, -np.inf)
        few[chosen] = logits[chosen]
        product = softmax(logits) * softmax(few)
        if rules.final != "groupvit":
            return product
        low = product.max(axis=0) < min(rules.bound, product.max())
        return np.concatenate([low[None].astype(float), product])


def predict(
    model: Any,
    canvas: torch.Tensor,
    size: tuple[int, int],
    text: np.ndarray,
    classes: np.ndarray,
    rules: Rules,
    **more: Any,
):
    """(prediction, margin) at the label's size; ``text`` holds the prompts that compete,
    ``classes`` what each stands for.
    """
    if rules.window is None:  # the patch grid of a whole image goes to the label at once
        whole = dataclasses.replace(rules, extra={**rules.extra, "size": size})
        values = Window(model, canvas, text, whole).scores(whole, logit_scale=1.0)
        return _decide(_at_label(canvas, values, size, rules), classes, rules)
    height, width = canvas.shape[1:]
    window, stride = rules.window or max(height, width), rules.stride or max(height, width)
    logit_scale = more.get("logit_scale", 1.0)
    total, count = None, np.zeros((height, width))
    for i in range(max(height - window + stride - 1, 0) // stride + 1):
        for j in range(max(width - window + stride - 1, 0) // stride + 1):
            y2, x2 = min(i * stride + window, height), min(j * stride + window, width)
            y1, x1 = max(y2 - window, 0), max(x2 - window, 0)
            scores = Window(model, canvas[:, y1:y2, x1:x2], text, rules).scores(
                rules, logit_scale=logit_scale
            )
            total = np.zeros((len(scores), height, width)) if total is None else total
            total[:, y1:y2, x1:x2] += scores
            count[y1:y2, x1:x2] += 1
    return _decide(_at_label(canvas, stretch(total / count, size), size, rules), classes, rules)


def _at_label(
    canvas: torch.Tensor, values: np.ndarray, size: tuple[int, int], rules: Rules
) -> np.ndarray:
    if rules.pamr and rules.pamr[0] == "label":
        return refine(stretch(canvas.numpy().astype(np.float64), size), values, rules.pamr[1])
    return values


def _decide(values: np.ndarray, classes: np.ndarray, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    names = classes
    if rules.final == "constant":
        values, names = (
            np.concatenate([np.full((1, *values.shape[1:]), rules.bound), values]),
            np.concatenate([[0], classes]),
        )
    if rules.final == "groupvit":
        names = np.concatenate([[0], classes])
    if rules.final == "probability":
        values = softmax(values * rules.scale)
    by_class = np.stack(
        [values[names == index].max(axis=0, initial=-np.inf) for index in range(names.max() + 1)]
    )
    if rules.area is not None:
        hot = np.bincount(by_class.argmax(axis=0).ravel(), minlength=len(by_class)).astype(float)
        small = hot[1:] <= rules.area * hot[1:].sum()
        by_class[1:][small] = 0
    ordered = np.sort(by_class, axis=0)
    margin = ordered[-1] - ordered[-2]
    if rules.final == "probability":  # a difference of cosines again
        with np.errstate(divide="ignore"):
            margin = (np.log(ordered[-1]) - np.log(ordered[-2])) / rules.scale
    prediction = by_class.argmax(axis=0)
    if rules.final == "probability" and rules.bound:
        prediction[by_class.max(axis=0) < rules.bound] = 0
        margin = np.minimum(margin, np.abs(by_class.max(axis=0) - rules.bound))
    return prediction, margin
