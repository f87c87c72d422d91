"""The towers that ``image.family`` and ``text.family`` name, built in or of one's own."""

from dataclasses import replace

from gestalt.encoders.image import ImageTower
from gestalt.encoders.keys import Image, Text
from gestalt.encoders.own import build_own_image_tower, build_own_text_tower
from gestalt.encoders.text import TextTower
from gestalt.tables import IMAGE_TOWERS, TEXT_TOWERS


def build_image_tower(image: Image, *, size: int) -> ImageTower:
    """Build an image tower.

    Args:
        image: its configuration; ``init`` is a word or a timm tag, ``weights`` a file in place of
            the init's own.
        size: side in pixels of the square images that position embeddings are made for; other sizes
            interpolate them.  A tower of one's own makes them for ``image.eval_size``.

    Raises:
        ValueError: the tower cannot be built; the message names the key.
    """
    build = IMAGE_TOWERS[image.family]
    if image.family not in IMAGE_TOWERS.built_in:
        return build_own_image_tower(image, build)
    tower: ImageTower = build(image, size=size)
    return tower


def build_text_tower(text: Text, *, weights: bool = True) -> TextTower:
    """Build a text tower; fresh weights are drawn from torch's global generator, which the caller
    seeds.

    Args:
        text: its configuration.
        weights: False where a checkpoint's weights follow; the model's own are then not read.

    Raises:
        ValueError: a size that the family lacks or needs, or a model that is not found.
    """
    build = TEXT_TOWERS[text.family]
    if text.family not in TEXT_TOWERS.built_in:
        return build_own_text_tower(text if weights else replace(text, init="random"), build)
    tower: TextTower = build(text, weights=weights) if text.family == "sentence" else build(text)
    if text.frozen:
        tower.freeze()
    return tower
