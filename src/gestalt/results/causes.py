"""Attribute lost mIoU to causes: count a set's wrong pixels by cause, and compute the share of each
cause in the gap between the mIoU and 1.

To mend a cause means to replace the predictions of its pixels with the ground truth.  v(S) is the
mIoU after the causes in S are mended, and the gap is v(all) - v(none) = 1 - mIoU.  The mIoU is not
a sum over pixels, so the gain from mending a cause depends on which causes are mended already.  The
share of a cause is its Shapley value: its mean gain over all orders in which the causes can be
mended.  Source: Shapley, A value for n-person games, 1953.

N images, C classes, m rows, k causes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import NamedTuple

import numpy as np

from gestalt.measures.evaluation.confusion import divide_or_nan, iou_of, mean_without_nan
from gestalt.results.intervals import Contribution, Interval, pseudo_values
from gestalt.support.arrays import Array, Floats, Ints

CAUSES = (
    "background predicted as a class",
    "class predicted as background",
    "class absent from the image",
    "other class of the image",
    "no class",
)
"""Causes of a wrong pixel.  The first two exist only for sets with a background class, and cover
all wrong pixels that involve the background.  The last is a pixel without a predicted class.
"""

FROM_BACKGROUND, TO_BACKGROUND, ABSENT, OTHER, UNNAMED = range(len(CAUSES))
RIGHT = -1

COUNT_NAMES = ("1", "2", "3", "4", "5+")
"""Numbers of true classes in an image.  Images with at least the last number form one group."""

BAND_NAMES = ("1 px", "2 px", "4 px", "8 px", "beyond")
"""Largest distance of the pixels of each band to a border of the true label map."""

AREAS = (0.01, 0.04, 0.16, 0.36)
"""Edges of the bins of a class's area, as a share of the labelled pixels of its image."""

AREA_NAMES = (*(f"below {100 * edge:.0f} %" for edge in AREAS), "larger")

MAX_COSTLY = 5
"""Maximum number of images to list for each cause, those that lose most to it."""


class Rows(NamedTuple):
    """The columns of the array ``rows`` of a set, each (m,).  A row is a group of pixels.

    Attributes:
        image: index of the image, in [0, N).
        truth: true class, in [0, C).
        predicted: predicted class, or C for no class.
        band: index of the band of the distance to a border.
        pixels: number of pixels with these four values.
    """

    image: Ints
    truth: Ints
    predicted: Ints
    band: Ints
    pixels: Ints

    @classmethod
    def of(cls, array: Array) -> "Rows":
        """Build the rows from the array of a result, (m, 5)."""
        return cls(*array.astype(np.int64).T)

    def where(self, chosen: Array) -> "Rows":
        """Return the rows that a mask or indices choose."""
        return Rows(*(column[chosen] for column in self))


def causes_of(rows: Rows, *, classes: int, background: int | None) -> Ints:
    """Return the cause of each row as an index into ``CAUSES``, or ``RIGHT`` for right pixels,
    (m,).
    """
    in_image = rows.image * (classes + 1)
    present = np.isin(in_image + rows.predicted, in_image + rows.truth)
    cause = np.where(present, OTHER, ABSENT)
    if background is not None:
        cause[rows.predicted == background] = TO_BACKGROUND
        cause[rows.truth == background] = FROM_BACKGROUND
    cause[rows.predicted == classes] = UNNAMED
    cause[rows.predicted == rows.truth] = RIGHT
    return cause


class Errors(NamedTuple):
    """Numbers of right and wrong pixels of each cell.

    A cell is a class of the set, or a class of one image. The numbers are float64, which is exact
    for counts of pixels.

    Attributes:
        right: (cells,) pixels of the intersection.
        missed: (cells, k) wrong pixels whose truth is the class, by cause.
        wrongly: (cells, k) wrong pixels that are predicted as the class, by cause.
    """

    right: Floats
    missed: Floats
    wrongly: Floats

    @classmethod
    def of(
        cls, rows: Rows, cause: Ints, *, causes: Sequence[int], cells: Sequence[Ints], count: int
    ) -> "Errors":
        """Sum the pixels of rows into the cells of their true class and of their predicted
        class.
        """
        truth, predicted = cells

        def total(cell: Ints, of_cause: int) -> Floats:
            chosen = cause == of_cause
            sums = np.bincount(cell[chosen], rows.pixels[chosen], minlength=count + 1)
            # pixels without a class may need one more cell
            return sums[:count].astype(np.float64)

        missed, wrongly = (
            np.stack([total(cell, of_cause) for of_cause in causes], axis=1)
            for cell in (truth, predicted)
        )
        return cls(total(truth, RIGHT), missed, wrongly)

    def mended(self, chosen: Floats) -> Ints:
        """Return the pixels of intersection, prediction and truth of each cell, (3, cells), after
        the causes that a mask (k,) chooses are mended.
        """
        intersection = self.right + self.missed @ chosen
        predicted = intersection + self.wrongly @ (1 - chosen)
        truth = self.right + self.missed.sum(axis=1)
        return np.stack([intersection, predicted, truth]).astype(np.int64)


def shapley(values: Floats) -> Floats:
    """Return the Shapley value of each player, (k, ...), from the value of each subset, (2**k,
    ...).

    Bit i of a subset's index says whether player i is in the subset.
    """
    players = len(values).bit_length() - 1
    member = members(players)
    shares = []
    for player in range(players):
        others = np.flatnonzero(member[:, player] == 0)
        gained = values[others + 2**player] - values[others]
        orders = [comb(players - 1, int(size)) for size in member[others].sum(axis=1)]
        shares.append(np.tensordot(1 / (players * np.array(orders)), gained, axes=1))
    return np.stack(shares)


def members(players: int) -> Floats:
    """Return a 0/1 matrix, (2**k, k), of which players are in each subset."""
    return ((np.arange(2**players)[:, None] >> np.arange(players)) & 1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Analysis of where a result loses mIoU.

    Attributes:
        causes: indices into ``CAUSES`` of the causes that can occur.
        miou: mIoU of the set.
        shares: (k,) share of each cause; the shares sum to 1 - mIoU.
        mended: (k,) mIoU after mending one cause alone.
        iou: (C,) IoU of each class; nan for a class in neither truth nor prediction.
        class_shares: (C, k) share of each cause for a class; the shares sum to 1 - IoU of the
            class.
        samples: (N, k) jackknife pseudo-values of the shares.
        parts: (N, k) part of each image in the shares; nan if the share is 0.  The loss of a class
            is divided among images in proportion to their wrong pixels of the class.
        marks: (N, C) number of true pixels of each class in each image.
        bands: mIoU of the pixels of each band of ``BAND_NAMES``.
        band_pixels: (k, 5) share of each cause's pixels in each band; nan for a cause without
            pixels.
        by_classes: number of images with 1, 2, 3, 4, and at least 5 true classes, and their mIoU.
        by_area: number of pixels of each bin of ``AREAS``, without background, and the share of
            right pixels.  This is pixel recall, which false positives do not lower.
    """

    causes: Sequence[int]
    miou: float
    shares: Floats
    mended: Floats
    iou: Floats
    class_shares: Floats
    samples: Floats
    parts: Floats
    marks: Ints
    bands: Floats
    band_pixels: Floats
    by_classes: tuple[Ints, Floats]
    by_area: tuple[Ints, Floats]

    def interval(self, number: int) -> Interval | None:
        """Return the 95 % interval over images of the share of the cause with an index in
        ``causes``.
        """
        return self._contribution.interval(self.samples[:, number])

    @property
    def curves(self) -> dict[str, dict[str, float]]:
        """The value of each group for each kind of group; nan for a group without pixels."""
        found = {
            "mIoU by distance to a border": (BAND_NAMES, self.bands),
            "mIoU by true classes in the image": (COUNT_NAMES, self.by_classes[1]),
            "pixel recall by area of the class": (AREA_NAMES, self.by_area[1]),
        }
        return {kind: dict(zip(*groups, strict=True)) for kind, groups in found.items()}

    @property
    def costly(self) -> list[dict[int, float]]:
        """For each cause, the images that lose most to it -> their part of its share."""
        return [
            {
                int(image): part[image]
                for image in np.argsort(-part, kind="stable")[:MAX_COSTLY]
                if part[image] > 0
            }
            for part in self.parts.T
        ]

    @property
    def reason(self) -> str:
        """The reason why the shares have no intervals; empty if they have intervals."""
        return self._contribution.reason

    @property
    def _contribution(self) -> Contribution:
        """The images' contributions to the first share; all shares have their marks."""
        return Contribution(self.marks, float(self.shares[0]), self.samples[:, 0], jackknife=True)


def diagnose(array: Array, *, images: int, classes: int, background: int | None) -> Diagnosis:
    """Analyse where a result loses mIoU, from the array ``rows`` of its set.

    Args:
        array: columns of ``Rows``, (m, 5).
        images: number of images, N.
        classes: number of classes, C.
        background: index of the background class; None if there is none.
    """
    rows = Rows.of(array)
    cause = causes_of(rows, classes=classes, background=background)
    causes = [ABSENT, OTHER] if background is None else [*range(UNNAMED)]
    if (cause == UNNAMED).any():
        causes.append(UNNAMED)
    width = classes + 1  # a column for no class
    cells = [rows.image * width + part for part in (rows.truth, rows.predicted)]
    errors = Errors.of(rows, cause, causes=causes, cells=cells, count=images * width)
    ious, samples = [], []
    for chosen in members(len(causes)):
        counts = errors.mended(chosen).reshape(3, images, width)[:, :, :classes].swapaxes(0, 1)
        ious.append(iou_of(counts.sum(axis=0)))
        samples.append(pseudo_values(counts))
    iou = np.stack(ious)
    values = mean_without_nan(iou, axis=1)
    share_of_classes = shapley(np.where(np.isnan(iou), 1.0, iou)).T
    share_of_classes[np.isnan(iou[0])] = np.nan
    shares = shapley(values)
    wrong = (errors.missed + errors.wrongly).reshape(images, width, len(causes))[:, :classes]
    lost_per_pixel = np.nan_to_num(divide_or_nan(share_of_classes, wrong.sum(axis=0)))
    parts = np.einsum("nck,ck->nk", wrong, lost_per_pixel)
    marks = counts[:, 2].copy()  # a copy, so that the counts can be freed
    bands = range(len(BAND_NAMES))
    band_pixels = np.array(
        [
            [rows.pixels[(cause == one) & (rows.band == band)].sum() for band in bands]
            for one in causes
        ]
    )
    present = np.minimum((marks > 0).sum(axis=1), len(COUNT_NAMES))
    groups = range(1, len(COUNT_NAMES) + 1)
    return Diagnosis(
        causes=causes,
        miou=float(values[0]),
        shares=shares,
        mended=values[1 << np.arange(len(causes))],
        iou=iou[0],
        class_shares=share_of_classes,
        samples=shapley(np.stack(samples)).T,
        parts=parts * divide_or_nan(shares, parts.sum(axis=0)),
        marks=marks,
        bands=np.array([_miou(rows.where(rows.band == band), classes) for band in bands]),
        band_pixels=divide_or_nan(
            band_pixels, np.broadcast_to(band_pixels.sum(axis=1, keepdims=True), band_pixels.shape)
        ),
        by_classes=(
            np.array([(present == number).sum() for number in groups]),
            np.array(
                [_miou(rows.where(present[rows.image] == number), classes) for number in groups]
            ),
        ),
        by_area=_by_area(rows.where(rows.truth != background), marks),
    )


def _miou(rows: Rows, classes: int) -> float:
    """Return the mIoU of some rows."""
    cause = np.where(rows.truth == rows.predicted, RIGHT, 0)
    cells = rows.truth, rows.predicted
    errors = Errors.of(rows, cause, causes=[0], cells=cells, count=classes)
    return float(mean_without_nan(iou_of(errors.mended(np.zeros(1))), axis=0))


def _by_area(rows: Rows, marks: Ints) -> tuple[Ints, Floats]:
    """Return the number of pixels and the share of right pixels of each bin of ``AREAS``."""
    area = marks[rows.image, rows.truth] / marks.sum(axis=1)[rows.image]
    bin_of = np.searchsorted(AREAS, area, side="right")
    right = rows.pixels * (rows.truth == rows.predicted)
    count = len(AREAS) + 1
    pixels, right = (np.bincount(bin_of, part, minlength=count) for part in (rows.pixels, right))
    return pixels.astype(np.int64), divide_or_nan(right, pixels)
