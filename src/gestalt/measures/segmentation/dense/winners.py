"""The winning prompt of each pixel of a label, from the windows of its image.  M maps, K prompts, I
J windows, H W pixels.

Four routes, by the steps after the patch grid: linear steps alone, tile by tile; a softmax over
prompts after the up-sampling to windows, tile by tile over the windows that overlap there; PAMR on
pixels, by blocks of whole maps; a CRF, on the whole maps of all classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gestalt.evaluation.images import Size, interpolate, upsample
from gestalt.measures.segmentation.dense.argmax import (
    Best,
    best_of,
    best_of_blocks,
    first_largest,
    tile_side,
)
from gestalt.measures.segmentation.dense.crf import dense_crf
from gestalt.measures.segmentation.dense.pamr import pamr
from gestalt.measures.segmentation.dense.placement import (
    Axes,
    Bands,
    canvas_matrix,
    label_bands,
    resample,
    window_matrix,
)
from gestalt.measures.segmentation.dense.scores import Maps, by_window
from gestalt.measures.segmentation.dense.windows import Pieces
from gestalt.measures.segmentation.protocol import TopDownProtocol

BLOCK_VALUES = 1 << 23
"""Values of a block of whole maps that are refined at one time (32 MiB in float32), at least one
map.
"""


@dataclass(frozen=True)
class Winners:
    """The maps of an image, and the winners among all or some of them.

    Attributes:
        pieces: its windows.
        maps: their scores on the patch grid.
        protocol: up-sampling and refinement.
        size: (H, W) of the label.
        logit_scale: factor from scores to logits.
    """

    pieces: Pieces
    maps: Maps
    protocol: TopDownProtocol
    size: Size
    logit_scale: float

    @property
    def scale(self) -> float | None:
        """The logit scale if the background rule needs the total of exp(scale * score), else
        None.
        """
        needs_total = (
            self.protocol.background == "probability" and (self.protocol.threshold or 0) > 0
        )
        return self.logit_scale if needs_total else None

    def among(self, chosen: Tensor | slice = slice(None)) -> Best:
        """Return the winners among the chosen (n,) int64 maps, as positions in ``chosen``; among
        all maps by default.
        """
        values, classes = (rows[chosen] for rows in self.maps)
        protocol, softmax = self.protocol, self.protocol.scores == "softmax"
        axes = self.pieces.axes(
            self.size,
            upsample=protocol.window_upsample,
            at_once=protocol.window is None and not softmax,
        )
        if protocol.refinement == "crf":
            return self._by_crf(values, classes, axes)
        if protocol.refinement == "pamr" and protocol.refined_at == "label":
            return best_of_blocks(self._refined_blocks(values, axes), scale=self.scale)
        tile = tile_side(values.device, maps=len(self.maps.values))
        rows, columns = (label_bands(axis, tile, values.device, of_canvas=softmax) for axis in axes)
        if softmax:
            return self._by_softmax(values, axes, rows, columns)
        return best_of(values, rows=rows, columns=columns, scale=self.scale)

    def _by_crf(self, values: Tensor, classes: Tensor, axes: Axes) -> Best:
        """Return the classes chosen by a dense CRF, each as its first map; exp(scale * score -
        total) is a score's probability.
        """
        rows, columns = _to_label(axes, device=values.device)
        members = [classes == index for index in torch.unique(classes)]
        firsts = torch.stack([maps.nonzero()[0, 0] for maps in members])
        logits = (
            torch.stack([(rows @ values[maps] @ columns.T).amax(dim=0) for maps in members])
            * self.logit_scale
        )
        cropped = self.protocol.resize == "centre_crop"  # scores cover the crop alone
        image = self.pieces.image if cropped else self.pieces.original
        probability = dense_crf(
            interpolate(image, self.size, mode="bilinear"),
            logits.amax(dim=0) - logits,
            potentials=self.protocol.crf,
            iterations=self.protocol.refinement_iterations,
        )
        best, index = first_largest(probability)
        if self.scale is None:
            return Best(best, winner=firsts[index], total=None)
        return Best(best.log() / self.scale, winner=firsts[index], total=torch.zeros_like(best))

    def _by_softmax(self, values: Tensor, axes: Axes, rows: Bands, columns: Bands) -> Best:
        """Return the largest of K softmax maps at each pixel; ``rows`` and ``columns`` are the
        bands of the label, made of the canvas's pixels.
        """
        windows = by_window(values, self.pieces)
        inside = [window_matrix(axis).float().to(values.device) for axis in axes]
        value = values.new_empty(self.size)
        winner = torch.empty_like(value, dtype=torch.int64)
        for row in rows:
            for column in columns:
                mean = _mean_softmax(
                    windows, self.pieces, inside=inside, rows=row.span, columns=column.span
                )
                scores = row.weights @ mean @ column.weights.T
                place = row.place, column.place
                value[place], winner[place] = first_largest(scores)
        return Best(value, winner=winner, total=None)

    def _refined_blocks(self, values: Tensor, axes: Axes) -> Iterator[Tensor]:
        """Yield blocks (m, H, W) of the maps in order, refined by PAMR on the label's pixels."""
        protocol, size = self.protocol, self.size
        step = max(1, BLOCK_VALUES // (size[0] * size[1]))
        rows, columns = _to_label(axes, device=values.device)
        guide = upsample(self.pieces.image.float(), size)
        for block in torch.split(values, step):
            yield pamr(
                guide,
                rows @ block @ columns.T,
                iterations=protocol.refinement_iterations,
                dilations=protocol.refinement_dilations,
            )


def place_maps(values: Tensor, pieces: Pieces, protocol: TopDownProtocol, size: Size) -> Tensor:
    """Place maps (M, R, C) of the patch grid at a size: (M, H, W), bilinear, averaged where windows
    overlap.
    """
    axes = pieces.axes(size, upsample=protocol.window_upsample, at_once=protocol.window is None)
    rows, columns = _to_label(axes, device=values.device)
    return rows @ values @ columns.T


def _mean_softmax(
    windows: Tensor, pieces: Pieces, *, inside: list[Tensor], rows: slice, columns: slice
) -> Tensor:
    """Return the mean over windows of the softmax over prompts of up-sampled cosines, (K, a, b), at
    some rows and columns of the canvas.

    Args:
        windows: (I * J, K, h, w) cosines.
        pieces: where the windows start.
        inside: matrices from a window's cells to its rows and columns.
        rows, columns: a rows and b columns of the canvas.
    """
    total = windows.new_zeros(
        windows.shape[1], rows.stop - rows.start, columns.stop - columns.start
    )
    count = torch.zeros_like(total[0])
    for number, window in enumerate(windows):
        down, across = pieces.place(number)
        top, bottom = max(down.start, rows.start), min(down.stop, rows.stop)
        left, right = max(across.start, columns.start), min(across.stop, columns.stop)
        if top >= bottom or left >= right:
            continue
        to_rows = inside[0][top - down.start : bottom - down.start]
        to_columns = inside[1][left - across.start : right - across.start]
        place = (
            slice(top - rows.start, bottom - rows.start),
            slice(left - columns.start, right - columns.start),
        )
        total[:, *place] += (to_rows @ window @ to_columns.T).softmax(dim=0)
        count[place] += 1
    return total.div_(count)


def _to_label(axes: Axes, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the matrices from a map's rows and columns to the label's, float32."""
    rows, columns = (
        resample(canvas_matrix(axis), axis.label, mode="bilinear").float().to(device)
        for axis in axes
    )
    return rows, columns
