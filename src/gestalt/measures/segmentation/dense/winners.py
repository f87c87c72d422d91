"""The winning prompt of each pixel of a label, from the windows of its image.  M maps, K prompts, I J windows, H W pixels.

Three routes, by the steps after the patch grid: linear steps, tile by tile, from the patch grid or, under a softmax over prompts, from the
resized image; PAMR on pixels, by blocks of whole maps; a CRF, on the whole maps of all classes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.dense.argmax import Best, best_of, best_of_blocks, first_largest, tile_side
from gestalt.measures.segmentation.dense.crf import dense_crf
from gestalt.measures.segmentation.dense.pamr import pamr
from gestalt.measures.segmentation.dense.placement import Axis, canvas_matrix, label_bands, resample
from gestalt.measures.segmentation.dense.scores import Maps, by_window, cut, grid_maps, side_by_side
from gestalt.measures.segmentation.dense.windows import Pieces
from gestalt.measures.segmentation.protocol import TopDownProtocol

BLOCK_VALUES = 1 << 23
"""Values of a block of whole maps that are refined at one time (32 MiB in float32), at least one map."""


class Winners:
    """The maps of an image, and the winners among all or some of them.

    Args:
        pieces: its windows.
        maps: their scores on the patch grid.
        protocol: up-sampling and refinement.
        size: (H, W) of the label.
        scale: if given, the total of exp(scale * score) is computed too.
        logit_scale: factor from scores to logits, for a CRF.
    """

    def __init__(
        self,
        pieces: Pieces,
        *,
        maps: Maps,
        protocol: TopDownProtocol,
        size: tuple[int, int],
        scale: float | None,
        logit_scale: float,
    ) -> None:
        self.classes = maps.classes
        self._pieces = pieces
        self._values = maps.values
        self._protocol = protocol
        self._size = size
        self._scale = scale
        self._logit_scale = logit_scale
        self._tile = tile_side(maps.values.device, maps=len(maps.values))
        refines_windows = protocol.refinement == "pamr" and protocol.refined_at == "window"
        at_once = protocol.window is None and protocol.scores != "softmax" and not refines_windows
        self._axes = pieces.axes(size, upsample=protocol.window_upsample, at_once=at_once)

    def among(self, chosen: Tensor | None = None) -> Best:
        """Return the winners among the chosen (n,) int64 maps, as positions in ``chosen``; among all maps by default."""
        values, classes = (rows if chosen is None else rows[chosen] for rows in (self._values, self.classes))
        protocol, device = self._protocol, values.device
        if protocol.refinement == "crf":
            return self._by_crf(values, classes)
        if protocol.refinement == "pamr" and protocol.refined_at != "grid":
            return best_of_blocks(_refined_blocks(values, self._pieces, axes=self._axes, protocol=protocol), scale=self._scale)
        of_canvas = protocol.scores == "softmax"
        if of_canvas:
            values = _mean_softmax(values, self._pieces, axes=self._axes)
        rows, columns = (label_bands(axis, self._tile, device, of_canvas=of_canvas) for axis in self._axes)
        return best_of(values, rows=rows, columns=columns, scale=self._scale)

    def _by_crf(self, values: Tensor, classes: Tensor) -> Best:
        """Return the classes chosen by a dense CRF, each as its first map; exp(scale * score - total) is a score's probability."""
        rows, columns = _to_label(self._axes, device=values.device)
        members = [classes == index for index in torch.unique(classes)]
        firsts = torch.stack([maps.nonzero()[0, 0] for maps in members])
        logits = torch.stack([(rows @ values[maps] @ columns.T).amax(dim=0) for maps in members]) * self._logit_scale
        cropped = self._protocol.resize == "centre_crop"  # scores cover the crop alone
        guide = _at_size(self._pieces.image if cropped else self._pieces.original, self._size)
        pixels = guide.round().clamp(0, 255).to(torch.uint8)
        crf, iterations = self._protocol.crf, self._protocol.refinement_iterations
        probability = dense_crf(pixels, logits.amax(dim=0) - logits, potentials=crf, iterations=iterations)
        best, index = first_largest(probability)
        if self._scale is None:
            return Best(best, winner=firsts[index], total=None)
        return Best(best.log() / self._scale, winner=firsts[index], total=torch.zeros_like(best))


def winners(pieces: Pieces, *, prompts: ClassEmbeddings, protocol: TopDownProtocol, size: tuple[int, int], logit_scale: float) -> Winners:
    """Score the maps of an image under a protocol, ready to name winners at the label's size (H, W)."""
    maps = grid_maps(pieces, prompts=prompts, protocol=protocol, logit_scale=logit_scale)
    needs_total = protocol.background == "probability" and (protocol.threshold or 0) > 0
    scale = logit_scale if needs_total else None
    return Winners(pieces, maps=maps, protocol=protocol, size=size, scale=scale, logit_scale=logit_scale)


def placed(values: Tensor, pieces: Pieces, *, protocol: TopDownProtocol, size: tuple[int, int]) -> Tensor:
    """Place maps (M, R, C) of the patch grid at a size: (M, H, W), bilinear, averaged where windows overlap."""
    axes = pieces.axes(size, upsample=protocol.window_upsample, at_once=protocol.window is None)
    rows, columns = _to_label(axes, device=values.device)
    return rows @ values @ columns.T


def _mean_softmax(values: Tensor, pieces: Pieces, *, axes: tuple[Axis, Axis]) -> Tensor:
    """Return the mean over windows of the softmax over prompts of up-sampled cosines, (K, rows, columns) of the canvas."""
    rows, columns = (_inside(axis.cells, axis.side, mode=axis.upsample).to(values.device) for axis in axes)
    total = values.new_zeros(len(values), *pieces.canvas)
    count = values.new_zeros(pieces.canvas)
    for number, window in enumerate(by_window(values, pieces)):
        down, across = pieces.place(number)
        total[:, down, across] += (rows @ window @ columns.T).softmax(dim=0)
        count[down, across] += 1
    return total.div_(count)


def _refined_blocks(values: Tensor, pieces: Pieces, *, axes: tuple[Axis, Axis], protocol: TopDownProtocol) -> Iterator[Tensor]:
    """Yield blocks (m, H, W) of the maps in order, refined by PAMR on each window's pixels or on the label's."""
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
    """Return the matrices from a map's rows and columns to the label's, float32."""
    rows, columns = (resample(canvas_matrix(axis), axis.label, mode="bilinear").float().to(device) for axis in axes)
    return rows, columns


def _at_size(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image to the label's size, (3, H, W) float32 in [0, 255]."""
    return functional.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)[0]


def _refined_windows(block: Tensor, pieces: Pieces, *, protocol: TopDownProtocol) -> Tensor:
    """Refine each window by itself: (m, R, C) on the patch grid to (m, I * side, J * side) on windows' pixels."""
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
    """Return the matrix from a window's cells to its pixels, (side, cells) float32."""
    return resample(torch.eye(cells, dtype=torch.float64), side, mode=mode).float()
