"""Build a text tower by its family."""

from collections.abc import Callable

from gestalt.encoders.text import OpenClipTower, SentenceTower, TextTower
from gestalt.support.names import nearest

INITS: dict[str, tuple[str, ...]] = {"sentence": ("sentence", "random"), "open_clip": ("random",)}  # family -> inits


def build_text_tower(
    family: str, *, model: str, init: str, layers: int | None, width: int | None, heads: int | None, max_length: int, frozen: bool
) -> TextTower:
    """Build a text tower; fresh weights are drawn from torch's global generator, which the caller seeds.

    Args:
        family: "sentence" (any sentence-transformers model) or "open_clip" (its text transformer).
        model: "sentence" only: hub name, local folder, or "package:NAME" of a pip package that ships a model folder.
        init: "sentence" keeps the model's weights; "random" keeps its architecture with fresh weights. "open_clip": "random" only.
        layers: "sentence": keep the first n, None keeps all. "open_clip": number of layers, at least 1.
        width: "open_clip" only, channels.
        heads: "open_clip" only, attention heads.
        max_length: most tokens of a caption, special ones included.
        frozen: no gradient, always eval mode.

    Raises:
        ValueError: an unknown name, a size that the family lacks or needs, or a model that is not found.
    """
    _check_name("family", family, known=tuple(FAMILIES))
    _check_name("init", init, known=INITS[family])
    tower = FAMILIES[family](model, init, layers, width, heads, max_length)
    return tower.freeze() if frozen else tower


def _sentence(model: str, init: str, layers: int | None, width: int | None, heads: int | None, max_length: int) -> TextTower:
    for key, value in {"width": width, "heads": heads}.items():
        if value is not None:
            raise ValueError(f"text.{key} is {value}, but text.model {model!r} has its own: leave it null for text.family sentence")
    return SentenceTower(model, init=init, layers=layers, max_length=max_length)


def _open_clip(model: str, init: str, layers: int | None, width: int | None, heads: int | None, max_length: int) -> TextTower:
    if layers is None or width is None or heads is None or min(layers, width, heads) < 1:
        sizes = f"text.layers={layers}, text.width={width}, text.heads={heads}"
        raise ValueError(f"text.family open_clip needs positive layers, width and heads, got {sizes}; CLIP's ViT-B/16 has 12, 512 and 8")
    if width % heads:
        raise ValueError(f"text.width is {width}: choose a multiple of text.heads={heads}")
    if max_length < 3:
        raise ValueError(f"text.max_length is {max_length}: choose at least 3, for a start, a word and an end token")
    return OpenClipTower(layers=layers, width=width, heads=heads, max_length=max_length)


FAMILIES: dict[str, Callable[[str, str, int | None, int | None, int | None, int], TextTower]] = {
    "sentence": _sentence,
    "open_clip": _open_clip,
}


def _check_name(key: str, name: str, *, known: tuple[str, ...]) -> None:
    """Check that a name is known."""
    if name not in known:
        raise ValueError(f"text.{key} {name!r} is unknown here: {nearest(name, known)}")
