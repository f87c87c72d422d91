"""Values that several measures, or several evaluations of a run, share are computed once."""

from types import SimpleNamespace

import pytest
import torch

from gestalt.measures.evaluation import images
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.grouping.callback import Grouping
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from gestalt.measures.retrieval.callback import Retrieval
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.measures.stage import context
from tests.gestalt.tiny_model import tiny


@pytest.fixture
def model():
    return tiny()[0].eval()


@pytest.fixture
def resizings(monkeypatch):
    """The sizes to which images were resized, a list that grows with each call."""
    sizes, resize = [], images.interpolate
    monkeypatch.setattr(
        images,
        "interpolate",
        lambda image, *size, **protocol: sizes.append(size) or resize(image, *size, **protocol),
    )
    return sizes


def stage(**changes):
    """The part of a trainer that scorers read."""
    silent = {
        "is_global_zero": True,
        "progress_bar_callback": None,
        "loggers": [],
        "current_epoch": 0,
        "state": SimpleNamespace(fn=None),
    }
    return SimpleNamespace(**{"sanity_checking": False, **silent, **changes})


def scorers():
    """One of each measure of a captioned set with objects and classes, at one size."""
    sizes = {"input_size": 32}
    retrieval = MEASURES["retrieval"].protocols
    protocols = {
        Segmentation: top_down_protocol("whole_square", tower_size=32),
        Grouping: build_protocol("pca_square", GROUPING_PROTOCOLS, **sizes),
        Retrieval: build_protocol("retrieval_square", retrieval, **sizes),
    }
    return [kind(context(pictures=0, protocol=own)) for kind, own in protocols.items()]


def batches():
    draws = torch.Generator().manual_seed(0)
    for start in (0, 2):
        truth = torch.randint(0, 4, (2, 32, 32), generator=draws, dtype=torch.uint8)
        image = torch.randint(0, 256, (2, 3, 32, 32), generator=draws, dtype=torch.uint8)
        yield {
            "set": "painted",
            "sample_id": torch.arange(start, start + 2),
            "name": ["a", "b"],
            "image": list(image),
            "labels": {"painted": list(truth)},
            "instance": list(truth),
            "captions": [["grass"], ["an apple", "sky"]],
        }


def evaluated(model, callbacks, *, trainer=None):
    """Run the hooks of one evaluation in a trainer's order; return the computed scores."""
    trainer = trainer or stage()
    module = SimpleNamespace(model=model, device=torch.device("cpu"), log=lambda *_, **__: None)
    for callback in callbacks:
        callback.on_validation_epoch_start(trainer, module)
    for number, batch in enumerate(batches()):
        for callback in callbacks:
            callback.on_validation_batch_end(trainer, module, None, batch, number)
    for callback in callbacks:
        callback.on_validation_epoch_end(trainer, module)
    return [callback.logged() for callback in callbacks]


def test_measures_of_equal_pixels_share_a_pass_and_score_as_each_alone(model):
    passes = []
    handle = model.image.tower.register_forward_hook(lambda *_: passes.append(1))
    together = evaluated(model, scorers())
    assert len(passes) == 2  # of two batches
    handle.remove()
    assert together == [evaluated(model, [callback])[0] for callback in scorers()]


@pytest.mark.parametrize(
    "changes", [{}, {"input_size": 24}, {"interpolation": "bilinear", "antialias": False}]
)
def test_images_are_resized_once_for_protocols_that_resize_alike_and_again_for_others(
    resizings, changes
):
    first = top_down_protocol("whole_square", tower_size=16)
    second = build_protocol("pca_square", GROUPING_PROTOCOLS, **{"input_size": 16, **changes})
    batch = next(batches())["image"]
    shared = images.SharedImages(batch)
    for protocol in (first, second, first):
        canvases = images.resize_all(shared, protocol=protocol)
        assert all(map(torch.equal, canvases, images.resize_all(batch, protocol=protocol)))
    assert len(resizings) == 3 * len(batch) + len(batch) * (2 if changes else 1)


@pytest.mark.parametrize("position", [0, 1])
def test_a_baseline_without_weights_is_counted_in_the_first_evaluation_alone(model, position):
    callback = scorers()[position]
    module = SimpleNamespace(model=model)
    callback.setup(stage(), module, "fit")
    updates = dict.fromkeys(callback.metrics, 0)
    for key, metric in callback.metrics.items():
        real = metric.update

        def update(*arguments, key=key, real=real):
            updates[key] += 1
            real(*arguments)

        metric.update = update
    # of a part of the set, as a rule
    evaluated(model, [callback], trainer=stage(sanity_checking=True))
    first = evaluated(model, [callback])
    again = evaluated(model, [callback])
    assert first == again
    assert updates == {key: 4 if key in callback.fixed else 6 for key in callback.metrics}
    record = callback.result()
    callback.setup(stage(), module, "validate")
    assert evaluated(model, [callback]) == first
    assert callback.result() == record
