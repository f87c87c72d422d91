"""Time top-down evaluation against a plain implementation, with the same tower in the same run, on
one thread: minutes.

The plain implementation is the fastest loop of torch's own operations that we know: image by image,
pass the windows through the tower together, up-sample all scores to the window, add them up,
up-sample to the label, take the largest.  Times are medians of rounds in turns, of CPU time where
there is no accelerator, so that a busy machine slows both alike.
"""

import statistics
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from clock import DEVICE, busy_seconds
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.measures.dense.placement import window_starts
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.images import resize
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.presets import top_down_protocol

TOWERS = {  # name: timm's model, and what is changed
    "ViT-S/16": Image("vit_small_patch16_224", init="random", eval_size=448),
    "small": Image(
        "vit_tiny_patch16_224",
        init="random",
        width=128,
        depth=4,
        heads=4,
        patch_size=32,
        eval_size=448,
    ),
}
CASES = {  # name: protocol, classes, height and width of the label
    "VOC-sized, 21 classes": ("mmseg-448", 21, (375, 500)),
    "VOC-sized, 56 prompts, probability": ("sclip-336", 56, (375, 500)),
    "COCO-sized, 171 classes": ("mmseg-448", 171, (480, 640)),
}
USUAL = ("VOC-sized, 21 classes", "COCO-sized, 171 classes")
"""The cases of all towers; the other cases are those of the small tower."""


class Model(nn.Module):
    """A random tower as a patch embedder; its memory is not counted."""

    def __init__(self, tower: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tower = build_image_tower(TOWERS[tower]).eval()
        self.patch_stride = self.tower.stride
        self.spent = 0.0  # seconds in the tower

    def embed_patches(self, images: Tensor, **reading) -> Tensor:
        """(B, E, h, w), L2-normalised."""
        made: list[Tensor] = []

        def embed() -> None:
            tokens = self.tower(images)
            unit = functional.normalize(tokens.parts, dim=2).transpose(1, 2)
            made.append(unit.reshape(len(unit), -1, *tokens.grid))

        with _disable_current_modes():
            self.spent += busy_seconds(embed)
        return made[0]


def photographs(size: tuple[int, int], *, count: int) -> list[Tensor]:
    """Cut pieces of this size out of scikit-learn's two photographs."""
    whole = [
        torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images
    ]
    pieces = [
        whole[number % 2][:, 20 * number % 100 :, 30 * number % 200 :] for number in range(count)
    ]
    wide = [
        functional.interpolate(piece[None].float(), size=size, mode="bilinear")[0]
        for piece in pieces
    ]
    return [image.round().to(torch.uint8).to(DEVICE) for image in wide]


@torch.no_grad()
def classes_of(model: Model, images: Sequence[Tensor], *, count: int) -> ClassEmbeddings:
    """Take the directions of some locations less the mean: classes that differ from place to place,
    as those of a trained model do.
    """
    rows = torch.cat(
        [model.embed_patches(image[None, :, :320, :448]).flatten(2)[0].T for image in images]
    )
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:count].to(
        DEVICE
    )
    vectors = functional.normalize(rows[chosen] - rows.mean(dim=0), dim=1)
    return ClassEmbeddings(
        vectors, class_index=torch.arange(count, device=DEVICE), background=0, classes=count
    )


@torch.no_grad()
def plain(
    model: Model, images: Sequence[Tensor], *, prompts: ClassEmbeddings, protocol: TopDownProtocol
) -> list[Tensor]:
    """Segment image by image, with all scores at full size; a softmax is computed only where a
    threshold needs probabilities.
    """
    predictions = []
    for image in images:
        scores = summed_scores(
            model, resize(image, protocol=protocol), prompts=prompts, protocol=protocol
        )
        values = functional.interpolate(scores, size=image.shape[1:], mode="bilinear")[0]
        best, index = values.max(dim=0)
        classes = prompts.class_index[index]
        if protocol.threshold and protocol.logit_scale:
            probability = (
                protocol.logit_scale * best - values.mul_(protocol.logit_scale).logsumexp(dim=0)
            ).exp()
            classes = torch.where(probability < protocol.threshold, 0, classes)
        predictions.append(classes)
    return predictions


def summed_scores(
    model: Model, canvas: Tensor, *, prompts: ClassEmbeddings, protocol: TopDownProtocol
) -> Tensor:
    """Return the mean scores (1, K, H, W) over the windows of a resized image, which pass through
    the tower together.

    A pixel's scores lie side by side in memory, which torch up-samples and reduces about twice as
    fast as maps.
    """
    rows, columns = (
        window_starts(side, window=protocol.window, stride=protocol.stride)
        for side in canvas.shape[1:]
    )
    places = [
        (slice(top, top + protocol.window), slice(left, left + protocol.window))
        for top in rows
        for left in columns
    ]
    windows = torch.stack([canvas[:, row, column] for row, column in places])
    # channels last
    scores = torch.einsum("nehw,ke->nkhw", model.embed_patches(windows), prompts.vectors)
    total = torch.zeros(1, len(prompts.vectors), *canvas.shape[1:], device=DEVICE).contiguous(
        memory_format=torch.channels_last
    )
    count = torch.zeros(canvas.shape[1:], device=DEVICE)
    for (row, column), window in zip(places, scores.split(1), strict=True):
        total[:, :, row, column] += functional.interpolate(
            window, size=windows.shape[2:], mode="bilinear"
        )
        count[row, column] += 1
    return total.div_(count)


class Peak(TorchDispatchMode):
    """Records the peak of the bytes of all tensors that operations made and that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._holders: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._hold(tensor)
        return made

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if self._holders.get(place, 0) == 0:
            self.now += size
            self.most = max(self.most, self.now)
        self._holders[place] = self._holders.get(place, 0) + 1
        weakref.finalize(tensor, self._release, place, size)

    def _release(self, place: int, size: int) -> None:
        self._holders[place] -= 1
        if self._holders[place] == 0:
            self.now -= size


def timed(work: Callable[[], Any], *, model: Model) -> tuple[float, float]:
    """Return the seconds of a piece of work, and the part of them that the tower took."""
    before = model.spent
    whole = busy_seconds(work)
    return whole, model.spent - before


def measured(tower: str, case: str, *, rounds: int) -> dict[str, Any]:
    """Return images a second and peak bytes of one case for both implementations, and the share of
    pixels on which they agree.
    """
    name, count, size = CASES[case]
    model = Model(tower).to(DEVICE)
    # the one with a threshold and without an area
    label_set = "context60" if name.startswith("sclip") else None
    protocol = top_down_protocol(name, label_set=label_set, has_background=label_set is not None)
    images = photographs(size, count=1)
    # one has fewer locations than 171
    prompts = classes_of(model, photographs(size, count=2), count=count)

    def ours() -> list[Tensor]:
        return [
            result.prediction
            for result in top_down(model, images, prompts=prompts, protocol=protocol)
        ]

    def theirs() -> list[Tensor]:
        return plain(model, images, prompts=prompts, protocol=protocol)

    pairs = list(zip(ours(), theirs(), strict=True))
    same = sum(int((mask == other).sum()) for mask, other in pairs) / sum(
        mask.numel() for mask, _ in pairs
    )
    taken = [(*timed(ours, model=model), *timed(theirs, model=model)) for _ in range(rounds)]
    peaks = []
    for implementation in (ours, theirs):
        with Peak() as peak:
            implementation()
        peaks.append(peak.most)
    return {
        "tower": tower,
        "case": case,
        "images_per_second": 1 / statistics.median(row[0] for row in taken),
        "plain_images_per_second": 1 / statistics.median(row[2] for row in taken),
        "faster": statistics.median(row[2] / row[0] for row in taken),
        "faster_after_the_tower": statistics.median(
            (row[2] - row[3]) / (row[0] - row[1]) for row in taken
        ),
        "peak_mib": peaks[0] / 2**20,
        "plain_peak_mib": peaks[1] / 2**20,
        "memory": peaks[0] / peaks[1],
        "same_pixels": same,
    }


def measure(*, rounds: int = 3) -> dict[str, Any]:
    """Measure the small tower on every case and the others on the usual ones, on one thread: CPU
    time is then the time taken.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [
            measured(tower, case, rounds=rounds)
            for tower in TOWERS
            for case in (CASES if tower == "small" else USUAL)
        ]
    finally:
        torch.set_num_threads(threads)
    return {
        "title": "top-down evaluation against a plain loop (windows of an image together), same "
        "tower, one thread; memory without the tower's",
        "rows": rows,
        "targets": {
            "never slower": min(row["faster"] for row in rows) >= 1,
            "a tenth of the memory with 171 classes": all(
                row["memory"] <= 0.1 for row in rows if "171" in row["case"]
            ),
        },
    }
