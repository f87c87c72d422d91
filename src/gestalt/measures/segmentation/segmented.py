"""Pictures segmented by any labels: the result as maps, numbers and a coloured picture, with
warnings of labels that the text tower reads as one or cuts.  K labels, E shared width, h w patch
grid, H W pixels.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple, SupportsFloat

import torch
from PIL import Image
from torch import Tensor

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.scores import cosines
from gestalt.measures.dense.windows import cut_and_embed
from gestalt.measures.dense.winners import place_maps
from gestalt.measures.evaluation.images import as_map_type, size_of
from gestalt.measures.evaluation.pictures import (
    BACKGROUND,
    in_row,
    label_colours,
    overlay,
    scale_to_panel,
)
from gestalt.measures.evaluation.prompts import ClassEmbeddings, class_embeddings, expand
from gestalt.measures.evaluation.vocabularies import Vocabulary
from gestalt.measures.segmentation.engine import top_down
from gestalt.support.arguments import PATH, check_type
from gestalt.support.arrays import Pixels
from gestalt.support.devices import on_host, send
from gestalt.support.faults import Caveat
from gestalt.support.files import replacing
from gestalt.support.label_values import WIDE, ignored_value

SIMILAR = 1 - 1e-6
"""Least cosine of two labels that the text tower cannot tell apart: they are the same tokens, and
differ by rounding alone.
"""

ROWS_AT_ONCE = 1024
"""Labels that are compared with all at one time."""

SHOWN = 60
"""Most characters of a label in a warning."""


def protocol_for(labels: Sequence[str], protocol: TopDownProtocol) -> TopDownProtocol:
    """Return the protocol as it takes effect on these labels: a prior needs one named
    ``background``.
    """
    return protocol if BACKGROUND in labels else replace(protocol, prior=0.0)


def label_prompts(
    model: DenseModel, labels: Sequence[str], protocol: TopDownProtocol
) -> ClassEmbeddings:
    """Embed labels as classes; under a threshold, one class more, ``len(labels)``, stands for what
    is below it.

    Warns of labels that the text tower cannot tell apart, of which the first wins each tie, and of
    labels that it cuts.

    Raises:
        ValueError: no labels, or too many for a label map; a rule that needs a background.
    """
    if not 1 <= len(labels) < WIDE:
        raise ValueError(
            f"{len(labels)} labels were given; give 1 to {WIDE - 1}, such as 'dog, cat, grass'"
        )
    phrases: tuple[tuple[str, ...], ...] = tuple((label,) for label in labels)
    weighed = protocol.prior != 0 and BACKGROUND in labels
    background = labels.index(BACKGROUND) if weighed else None
    words = Vocabulary(tuple(labels), prompts=phrases, background=background)
    if protocol.background == "threshold":
        words = Vocabulary((*labels, "background"), prompts=(*phrases, ()), background=len(labels))
    prompts = class_embeddings(model, words, protocol=protocol, of_locations=True)
    first = _first_similar(prompts.vectors)
    alike: dict[int, list[str]] = {}
    for label, winner in zip(labels, first.tolist(), strict=True):
        alike.setdefault(winner, []).append(label)
    for similar in alike.values():
        if len(similar) > 1:
            warnings.warn(
                f"the text tower cannot tell the labels {_quoted(similar)} apart: the first has "
                "the pixels of all",
                Caveat,
                stacklevel=2,
            )
    tower = getattr(model, "text_tower", None)  # of our own models only
    if tower is not None:
        cut = [
            label
            for label in labels
            if max(map(len, tower.tokenise(expand(label, protocol=protocol), cut=False)))
            > tower.max_length
        ]
        if cut:
            warnings.warn(
                f"the text tower reads {tower.max_length} tokens and cuts the prompts of the "
                f"labels {_quoted(cut)}",
                Caveat,
                stacklevel=2,
            )
    return prompts._replace(twin=first) if len(alike) < len(labels) else prompts


def _first_similar(vectors: Tensor) -> Tensor:
    """Return for each of (K, E) unit vectors the first that equals it up to rounding, (K,) int64;
    in float64, beyond autocast and TF32.
    """
    exact = vectors.double()
    return torch.cat(
        [
            (rows @ exact.T >= SIMILAR).int().argmax(dim=1)
            for rows in torch.split(exact, ROWS_AT_ONCE)
        ]
    )


def _quoted(labels: Iterable[str]) -> str:
    return ", ".join(f'"{shorten(label, SHOWN, placeholder=" ...")}"' for label in labels)


class Similarity(NamedTuple):
    """The cosine of a label with the locations of a picture."""

    mean: float
    max: float


@dataclass(frozen=True, eq=False)
class SegmentedImage:
    """A picture in which every pixel has the label that its location resembles most.

    Attributes:
        labels: K names.
        map: (H, W) on the CPU, the position in ``labels``; uint8 for up to 255 labels, with 255
            below the threshold, if one was given; int32 beyond, with 65535.
        scores: the mean and the largest cosine of each label over the patch grid.
        areas: the share of the pixels of each label; with a threshold they may sum to less than 1.
        image: (3, H, W) uint8 on the CPU, the picture.
        similarity: (K, h, w) float32 on the CPU, the cosine of each label with each location of the
            patch grid.

    Example:
        >>> result = model.segment("photo.jpg", ["dog", "grass"])
        >>> tuple(result.map.shape) == tuple(result.image.shape[1:])
        True
        >>> round(sum(result.areas.values()), 6)
        1.0
    """

    labels: tuple[str, ...]
    map: Tensor = field(repr=False)
    scores: dict[str, Similarity]
    areas: dict[str, float]
    image: Tensor = field(repr=False)
    similarity: Tensor = field(repr=False)

    @property
    def colours(self) -> Pixels:
        """The colour of each label in every picture of the result, (K, 3) uint8; black is not
        painted.
        """
        return label_colours(self.labels)

    def overlay(self, *, alpha: float = 0.5, legend: bool = False) -> Image.Image:
        """Draw the labels' colours over the picture.

        Args:
            alpha: share of the colour, 0 to 1.
            legend: draw it at the size of a page, beside the labels and their areas, largest
                first.

        Example:
            >>> model.segment("photo.jpg", ["dog", "grass"]).overlay().size
            (50, 33)
        """
        check_type("alpha", alpha, SupportsFloat, "a number from 0 to 1")
        colours = self.colours
        picture = overlay(self.image, self.map, colours=colours, alpha=alpha)
        if not legend:
            return picture
        pixels = torch.bincount(self.map.flatten(), minlength=len(self.labels)).tolist()
        largest_first = sorted(range(len(self.labels)), key=lambda index: -pixels[index])
        entries = [
            (
                self.labels[index],
                f"{100 * (pixels[index] / self.map.numel()):.0f} %",
                colours[index],
            )
            for index in largest_first
            if pixels[index]
        ]
        panel = scale_to_panel(picture, smooth=True)
        return in_row({"": panel}, entries=entries, caption="")

    def save(self, path: str | Path) -> Path:
        """Write the overlay with its legend, and return the path; the ending is that of a format,
        such as ``.png``.

        Raises:
            ValueError: an ending that is not of a picture's format, or a folder that does not
                exist.

        Example:
            >>> model.segment("photo.jpg", ["dog", "grass"]).save("photo_segmented.png").name
            'photo_segmented.png'
        """
        check_type("path", path, PATH, "the path of the picture to be written")
        path = Path(path)
        if not path.parent.is_dir():
            raise ValueError(f"{path}: folder {path.parent} not found")
        form = Image.registered_extensions().get(path.suffix.lower())
        if form not in Image.SAVE:  # some formats can only be read
            raise ValueError(
                f"{path}: {path.suffix or 'no ending'} is not a format of pictures that can be "
                "written; name a file that ends in .png"
            )
        with replacing(path) as partial:
            self.overlay(legend=True).save(partial, form)
        return path


@torch.no_grad()
def segment_images(
    model: DenseModel, images: Sequence[Tensor], *, labels: Sequence[str], protocol: TopDownProtocol
) -> list[SegmentedImage]:
    """Segment B images, (3, H, W) uint8 of any sizes, by the same labels, with a model in eval
    mode.

    Raises:
        ValueError: no labels or too many; a window that the tower cannot take.
    """
    protocol = protocol_for(labels, protocol)
    prompts = label_prompts(model, labels, protocol)
    on_device = [send(image, prompts.vectors.device) for image in images]
    found = top_down(model, on_device, prompts, protocol)
    results = []
    for image, top in zip(on_device, found, strict=True):
        pieces = top.pieces
        similar = place_maps(cosines(pieces, prompts), pieces, protocol, pieces.grid)
        similar, classes, pixels = on_host(similar, top.prediction, image)
        means, most = similar.mean(dim=(1, 2)).tolist(), similar.amax(dim=(1, 2)).tolist()
        # the class after the labels is the background
        named = classes.masked_fill(classes == len(labels), ignored_value(len(labels)))
        mask = as_map_type(named, classes=len(labels))
        shares = torch.bincount(mask.flatten(), minlength=len(labels)) / mask.numel()
        scores = dict(zip(labels, map(Similarity, means, most), strict=True))
        areas = dict(zip(labels, shares.tolist(), strict=False))  # the background's is left out
        results.append(
            SegmentedImage(
                tuple(labels), mask, scores, areas=areas, image=pixels, similarity=similar
            )
        )
    return results


@torch.no_grad()
def similarity_maps(
    model: DenseModel,
    images: Sequence[Tensor],
    *,
    texts: Sequence[str],
    protocol: TopDownProtocol,
    full_size: bool,
) -> list[Tensor]:
    """Return the cosine of every location with every text: (K, h, w) float32 of each image, or
    (K, H, W) up-sampled bilinearly.

    Raises:
        ValueError: no texts; a window that the tower cannot take.
    """
    protocol = replace(protocol, prior=0.0)  # of labels alone
    prompts = label_prompts(model, texts, protocol)
    on_device = [send(image, prompts.vectors.device) for image in images]
    return [
        place_maps(
            cosines(pieces, prompts), pieces, protocol, size_of(image) if full_size else pieces.grid
        )
        for image, pieces in zip(on_device, cut_and_embed(model, on_device, protocol), strict=True)
    ]
