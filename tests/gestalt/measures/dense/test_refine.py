"""Refinement: PAMR sharpens edges; what the CRF library is given, what is done with its output, and
its result against a reference.
"""

import dataclasses
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.dense import winners as maps
from gestalt.measures.dense.protocol import Crf, TopDownProtocol
from gestalt.measures.dense.refine import dense_crf, pamr
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.segmentation.engine import TopDown, top_down
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.measures.segmentation.reference import softmax
from tests.gestalt.measures.segmentation.test_parity import RandomModel
from tests.gestalt.painted import Words

WORDS = Words(
    ("background", "bed", "cat"),
    prompts=(("wall", "sky"), ("bed",), ("cat", "kitten", "tom")),
    background=0,
)
SIZE = (21, 30)
WEAK = Crf(position_weight=0.3, colour_weight=0.3)


def kernel(features: np.ndarray) -> np.ndarray:
    """All pairs, normalised from both sides."""
    values = np.exp(-((features[:, None] - features[None]) ** 2).sum(axis=2) / 2)
    root = 1 / np.sqrt(values.sum(axis=1))
    return root[:, None] * values * root[None]


class ExactCrf:
    """The library's interface over sums of all pairs of pixels, float64."""

    def __init__(self, width: int, height: int, count: int) -> None:
        self.shape = (count, height * width)
        rows, columns = np.mgrid[:height, :width]
        self.place = np.stack([columns, rows], axis=2).reshape(-1, 2).astype(float)
        self.edges = np.zeros((height * width, height * width))

    def setUnaryEnergy(self, energy: np.ndarray) -> None:  # noqa: N802
        assert energy.dtype == np.float32
        assert energy.shape == self.shape
        self.energy = energy.astype(float)

    def addPairwiseGaussian(self, *, sxy: float, compat: float) -> None:  # noqa: N802
        self.edges += compat * kernel(self.place / sxy)

    def addPairwiseBilateral(  # noqa: N802
        self, *, sxy: float, srgb: float, rgbim: np.ndarray, compat: float
    ) -> None:
        assert rgbim.dtype == np.uint8
        self.edges += compat * kernel(
            np.concatenate([self.place / sxy, rgbim.reshape(-1, 3) / srgb], axis=1)
        )

    def inference(self, iterations: int) -> np.ndarray:
        found = softmax(-self.energy)
        for _ in range(iterations):
            found = softmax(-self.energy + found @ self.edges.T)
        return found


@pytest.fixture(params=["all pairs", "library"])
def crf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Run with an exact replacement and with the real library; returns the tolerance of
    probabilities against all pairs.
    """
    if request.param == "library":
        if importlib.util.find_spec("pydensecrf") is None:
            pytest.skip("pydensecrf2 is not installed: pip install -e '.[crf]'")
        return 0.05
    module = ModuleType("pydensecrf.densecrf")
    module.DenseCRF2D = ExactCrf  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pydensecrf", ModuleType("pydensecrf"))
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", module)
    return 1e-5


def bands() -> Tensor:
    """Three plain colours, ten pixels wide each, and a little noise, (3, H, W)."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.randint(30, 225, (3, 3), generator=generator).float()
    image = colours.T.repeat_interleave(10, dim=1)[:, None].expand(3, *SIZE)
    return (image + 4 * torch.randn(image.shape, generator=generator)).round().to(torch.uint8)


def protocol(**changes: object) -> TopDownProtocol:
    return top_down_protocol(
        "mmseg-448", vocabulary="label_set", input_size=64, window=48, stride=32, **changes
    )


def segmented(image: Tensor, asked: TopDownProtocol) -> TopDown:
    model = RandomModel()
    return top_down(
        model, [image], prompts=class_embeddings(model, WORDS, protocol=asked), protocol=asked
    )[0]


def expected(
    image: Tensor, asked: TopDownProtocol, *, scale: float, classes: tuple[int, ...] = (0, 1, 2)
) -> np.ndarray:
    """(K, H, W): all pairs, over class scores that the engine gives one class at a time."""
    model = RandomModel()
    prompts = class_embeddings(model, WORDS, protocol=asked)
    plain = protocol()
    logits = []
    for index in classes:
        own = prompts._replace(
            vectors=prompts.vectors[prompts.class_index == index],
            class_index=torch.zeros(1, dtype=torch.int64),
            twin=None,
        )
        own = own._replace(class_index=torch.zeros(len(own.vectors), dtype=torch.int64))
        logits.append(
            scale
            * top_down(model, [image], prompts=own, protocol=plain)[0].score.numpy().astype(float)
        )
    exact = ExactCrf(image.shape[2], image.shape[1], len(classes))
    exact.setUnaryEnergy(
        -np.log(softmax(np.stack(logits).reshape(len(classes), -1))).astype(np.float32)
    )
    edges = asked.crf
    exact.addPairwiseGaussian(sxy=edges.position_std, compat=edges.position_weight)
    pixels = image.permute(1, 2, 0).numpy()
    exact.addPairwiseBilateral(
        sxy=edges.colour_position_std,
        srgb=edges.colour_std,
        rgbim=pixels,
        compat=edges.colour_weight,
    )
    return exact.inference(asked.refinement_iterations).reshape(-1, *image.shape[1:])


def assert_close(found: TopDown, wanted: np.ndarray, *, apart: float) -> None:
    assert np.abs(found.score.numpy() - wanted.max(axis=0)).max() <= apart
    first, second = np.sort(wanted, axis=0)[[-1, -2]]
    clear = first - second > 2 * apart
    assert clear.mean() > 0.9
    assert (found.classes_before_threshold.numpy() == wanted.argmax(axis=0))[clear].all()


def test_classes_are_refined_by_all_pairs_of_pixels_and_follow_the_edges(crf):
    asked = protocol(refinement="crf", logit_scale=5.0)
    found = segmented(bands(), asked)
    assert_close(found, expected(bands(), asked, scale=5.0), apart=crf)
    assert 1 in segmented(bands(), protocol()).prediction
    assert [found.prediction[:, left : left + 10].unique().tolist() for left in (0, 10, 20)] == [
        [0],
        [0],
        [2],
    ]


def test_the_image_is_brought_to_the_labels_size_and_a_crop_is_what_was_scored(monkeypatch):
    seen: list[Tensor] = []

    def keep(image: Tensor, energy: Tensor, _: object) -> Tensor:
        seen.append(image)
        return (-energy).softmax(dim=0)

    monkeypatch.setattr(maps, "dense_crf", keep)
    model, image = RandomModel(), bands()
    for resize, wanted in (("keep_ratio", image), ("centre_crop", image[:, :, 4:25])):
        windows = (
            {} if resize == "keep_ratio" else {"window": None, "stride": None, "long_limit": None}
        )
        asked = dataclasses.replace(protocol(refinement="crf"), resize=resize, **windows)
        prompts = class_embeddings(model, WORDS, protocol=asked)
        top_down(model, [image], prompts=prompts, protocol=asked, sizes=[(42, 42)])
        whole = torch.nn.functional.interpolate(
            wanted[None].float(), size=(42, 42), mode="bilinear"
        )[0]
        assert seen[-1].dtype == torch.uint8
        apart = (seen[-1].float() - whole).abs()
        assert (apart.max() <= 0.5) if resize == "keep_ratio" else (apart.mean() < 12)


def test_the_threshold_applies_to_the_probabilities_after_the_crf(crf):
    asked = protocol(
        refinement="crf", background="probability", threshold=0.7, logit_scale=5.0, crf=WEAK
    )
    found = segmented(bands(), asked)
    assert_close(found, expected(bands(), asked, scale=5.0), apart=crf)
    assert torch.equal(
        found.prediction, torch.where(found.score < 0.7, 0, found.classes_before_threshold)
    )
    assert 0 < (found.score < 0.7).float().mean() < 1


def test_a_class_below_the_area_threshold_is_removed_and_the_rest_refined_again(crf):
    changes = {
        "refinement": "crf",
        "background": "probability",
        "threshold": 1e-6,
        "logit_scale": 5.0,
        "crf": WEAK,
    }
    whole = segmented(bands(), protocol(**changes)).classes_before_threshold
    left = segmented(bands(), protocol(**changes, area_threshold=0.2)).classes_before_threshold
    assert whole.unique().tolist() == [0, 1, 2]
    assert left.unique().tolist() == [0, 2]
    again = segmented(bands(), protocol(**changes, area_threshold=0.2))
    assert_close(
        again._replace(classes_before_threshold=again.classes_before_threshold // 2),
        expected(bands(), protocol(**changes), scale=5.0, classes=(0, 2)),
        apart=crf,
    )


def test_a_missing_crf_library_is_reported_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(ValueError, match="needs pydensecrf2"):
        segmented(bands(), protocol(refinement="crf"))


def test_a_nan_energy_is_refused(crf):
    energy = torch.full((2, *SIZE), float("nan"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        dense_crf(bands(), energy, protocol(refinement_iterations=1))


def test_pamr_keeps_constant_maps_and_sharpens_edges():
    image = torch.zeros(3, 20, 20)
    image[:, :, 10:] = 255
    flat = torch.full((1, 20, 20), 0.3)
    rings = top_down_protocol("mmseg-448", refinement_dilations=(1, 2))
    torch.testing.assert_close(pamr(image, flat, rings), flat)
    blurred = torch.linspace(0, 1, 20).expand(1, 20, 20)
    sharp = pamr(image, blurred, rings)[0]
    assert (sharp[:, 10] - sharp[:, 9]).min() > 3 * (1 / 19)
