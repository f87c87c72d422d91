"""From the windows of an image to the winning prompt of each pixel of its label.  M maps, K prompts, I J windows, H W pixels.

Ways to the same kind of answer: all that is linear after the patch grid goes tile by tile; a softmax over prompts that follows the
up-sampling to windows goes tile by tile too, over the windows that meet there; PAMR on pixels goes by blocks of whole maps, a CRF over
the whole maps of all classes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.evaluation.dense.argmax import Best, best_of, best_of_blocks, best_of_tiles, first_largest, tile_side
from gestalt.evaluation.dense.crf import dense_crf
from gestalt.evaluation.dense.pamr import pamr
from gestalt.evaluation.dense.placement import Axis, canvas_bands, canvas_matrix, label_bands, resample
from gestalt.evaluation.dense.scores import Maps, by_window, cut, grid_maps, side_by_side
from gestalt.evaluation.dense.windows import Pieces
from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.evaluation.protocols import TopDownProtocol

BLOCK_VALUES = 1 << 23
"""Values of a block of whole maps that are refined at one time (32 MiB in float32), at least one map."""


class Winners:
    """The maps of an image, and the winners among all or some of them.

    Args:
        pieces: its windows.
        maps: their scores on the patch grid.
        protocol: what is left to do.
        size: of the label.
        scale: if given, the total of exp(scale * score) is wanted too.
        logit_scale: what makes logits of scores, for a CRF.
        tile: pixels a side of what is done at one time; the device's unless given.
    """

    def __init__(
        self,
        pieces: Pieces,
        *,
        maps: Maps,
        protocol: TopDownProtocol,
        size: tuple[int, int],
        scale: float | None = None,
        logit_scale: float = 1.0,
        tile: int | None = None,
    ) -> None:
        self.classes = maps.classes
        self._pieces = pieces
        self._values = maps.values
        self._protocol = protocol
        self._size = size
        self._scale = scale
        self._logit_scale = logit_scale
        self._tile = tile or tile_side(maps.values.device, maps=len(maps.values))
        at_once = protocol.window is None and protocol.scores != "softmax" and not self._refines_windows
        self._axes = pieces.axes(size, upsample=protocol.window_upsample, at_once=at_once)

    @property
    def _refines_windows(self) -> bool:
        return self._protocol.refinement == "pamr" and self._protocol.refined_at == "window"

    def among(self, chosen: Tensor | None = None) -> Best:
        """The winners among the chosen (n,) int64 maps, numbered as they are chosen; among all unless given."""
        values, classes = (each if chosen is None else each[chosen] for each in (self._values, self.classes))
        protocol, device = self._protocol, values.device
        if protocol.refinement == "crf":
            return self._by_crf(values, classes)
        if protocol.refinement == "pamr" and protocol.refined_at != "grid":
            return best_of_blocks(_refined_blocks(values, self._pieces, axes=self._axes, protocol=protocol), scale=self._scale)
        if protocol.scores == "softmax":
            tiles = _softmax_tiles(values, self._pieces, axes=self._axes, side=self._tile)
            return best_of_tiles(tiles, size=self._size)
        rows, columns = (label_bands(axis, self._tile, device) for axis in self._axes)
        return best_of(values, rows=rows, columns=columns, scale=self._scale)

    def _by_crf(self, values: Tensor, classes: Tensor) -> Best:
        """The classes that a dense CRF ends with, each by its first map; exp(scale * score - total) is a score's probability."""
        rows, columns = _to_label(self._axes, device=values.device)
        present = torch.unique(classes)
        firsts = torch.stack([(classes == each).nonzero()[0, 0] for each in present])
        logits = torch.stack([(rows @ values[classes == each] @ columns.T).amax(dim=0) for each in present]) * self._logit_scale
        cropped = self._protocol.resize == "centre_crop"  # of which no more than the crop was scored
        guide = _at_size(self._pieces.image if cropped else self._pieces.original, self._size)
        pixels = guide.round().clamp(0, 255).to(torch.uint8)
        crf, iterations = self._protocol.crf, self._protocol.refinement_iterations
        probability = dense_crf(pixels, logits.amax(dim=0) - logits, potentials=crf, iterations=iterations)
        best, index = first_largest(probability)
        if self._scale is None:
            return Best(best, winner=firsts[index], total=None)
        return Best(best.log() / self._scale, winner=firsts[index], total=torch.zeros_like(best))


def winners(
    pieces: Pieces,
    *,
    prompts: ClassEmbeddings,
    protocol: TopDownProtocol,
    size: tuple[int, int],
    logit_scale: float,
    tile: int | None = None,
) -> Winners:
    """The winners of an image under a protocol.

    Args:
        pieces: its windows.
        prompts: embedded prompts.
        protocol: scores, up-sampling and refinement.
        size: (H, W) of the label.
        logit_scale: where a softmax needs it.
        tile: as in ``Winners``.
    """
    maps = grid_maps(pieces, prompts=prompts, protocol=protocol, logit_scale=logit_scale)
    needs_total = protocol.background == "probability" and (protocol.threshold or 0) > 0
    scale = logit_scale if needs_total else None
    return Winners(pieces, maps=maps, protocol=protocol, size=size, scale=scale, logit_scale=logit_scale, tile=tile)


def _softmax_tiles(values: Tensor, pieces: Pieces, *, axes: tuple[Axis, Axis], side: int) -> Iterator[tuple[int, int, Tensor]]:
    """(top, left, (K, t, u)): the mean over windows of the softmax of up-sampled cosines, itself up-sampled from canvas to label."""
    windows = by_window(values, pieces)
    windows = windows.reshape(*pieces.features.shape[:2], *windows.shape[1:])
    insides = [_inside(axis.cells, axis.side, mode=axis.upsample).to(values.device) for axis in axes]
    rows, columns = (canvas_bands(axis, side, values.device) for axis in axes)
    for row in rows:
        for column in columns:
            mean = _mean_softmax(windows, pieces, place=(row.cells, column.cells), insides=insides)
            yield row.start, column.start, row.weights @ mean @ column.weights.T


def _mean_softmax(windows: Tensor, pieces: Pieces, *, place: tuple[Tensor, Tensor], insides: list[Tensor]) -> Tensor:
    """(K, a, b) at some of the canvas's rows and columns."""
    total = windows.new_zeros(windows.shape[2], len(place[0]), len(place[1]))
    count = total.new_zeros(total.shape[1:])
    for i, top in enumerate(pieces.starts[0]):
        for j, left in enumerate(pieces.starts[1]):
            here = [
                ((pixels >= origin) & (pixels < origin + side)).nonzero()[:, 0]
                for pixels, origin, side in zip(place, (top, left), pieces.side, strict=True)
            ]
            if min(map(len, here)) == 0:
                continue
            rows, columns = (
                inside[pixels[own] - origin] for inside, pixels, own, origin in zip(insides, place, here, (top, left), strict=True)
            )
            block = (slice(int(here[0][0]), int(here[0][-1]) + 1), slice(int(here[1][0]), int(here[1][-1]) + 1))
            total[:, block[0], block[1]] += (rows @ windows[i, j] @ columns.T).softmax(dim=0)
            count[block] += 1
    return total / count


def _refined_blocks(values: Tensor, pieces: Pieces, *, axes: tuple[Axis, Axis], protocol: TopDownProtocol) -> Iterator[Tensor]:
    """Blocks (m, H, W) of the maps in order, refined by PAMR on each window's pixels or on the label's."""
    on_windows = protocol.refined_at == "window"
    step = max(1, BLOCK_VALUES // (axes[0].label * axes[1].label))
    cells = [axis._replace(cells=axis.side) if on_windows else axis for axis in axes]
    rows, columns = _to_label((cells[0], cells[1]), device=values.device)
    guide = _at_size(pieces.image, (axes[0].label, axes[1].label))
    for start in range(0, len(values), step):
        block = values[start : start + step]
        if on_windows:
            block = _refined_windows(block, pieces, protocol=protocol)
        whole = rows @ block @ columns.T
        yield whole if on_windows else _pamr(guide, whole, protocol=protocol)


def _to_label(axes: tuple[Axis, Axis], *, device: torch.device) -> tuple[Tensor, Tensor]:
    """What takes maps to the label's rows and columns, float32."""
    rows, columns = (resample(canvas_matrix(axis), axis.label, mode="bilinear").float().to(device) for axis in axes)
    return rows, columns


def _at_size(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels of an image at the label's size, (3, H, W) float32 in [0, 255]."""
    return functional.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)[0]


def _refined_windows(block: Tensor, pieces: Pieces, *, protocol: TopDownProtocol) -> Tensor:
    """(m, R, C) on the patch grid to (m, I * side, J * side) on windows' pixels, each window refined by itself."""
    windows = by_window(block, pieces)
    rows, columns = (
        _inside(cells, side, mode=protocol.window_upsample).to(block.device)
        for cells, side in zip(pieces.features.shape[-2:], pieces.side, strict=True)
    )
    refined = [_pamr(cut(pieces, number), rows @ window @ columns.T, protocol=protocol) for number, window in enumerate(windows)]
    return side_by_side(torch.stack(refined), pieces)


def _pamr(guide: Tensor, maps: Tensor, *, protocol: TopDownProtocol) -> Tensor:
    return pamr(guide, maps, iterations=protocol.refinement_iterations, dilations=protocol.refinement_dilations)


def _inside(cells: int, side: int, *, mode: str) -> Tensor:
    """(side, cells) float32: a window's pixels out of its cells."""
    return resample(torch.eye(cells, dtype=torch.float64), side, mode=mode).float()
