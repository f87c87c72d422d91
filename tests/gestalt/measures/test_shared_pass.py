"""Values that several measures, or several evaluations of a run, share are computed once."""

from itertools import chain
from types import SimpleNamespace

import pytest
import torch

from gestalt.measures.dense.windows import cut_and_embed
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.grouping.callback import Grouping
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from gestalt.measures.retrieval.callback import Retrieval
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.measures.segmentation.test_parity import noise
from tests.gestalt.measures.stage import Images, context
from tests.gestalt.painted import LABELS
from tests.gestalt.tiny_model import tiny


@pytest.fixture
def model():
    return tiny()[0].eval()


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
    """One of each measure of a captioned set with objects and classes, at one size; segmentation
    reads the pooled image too.
    """
    sizes = {"input_size": 32}
    retrieval = MEASURES["retrieval"].protocols
    protocols = {
        Segmentation: top_down_protocol("whole_square", tower_size=32, image_weight=0.25),
        Grouping: build_protocol("pca_square", GROUPING_PROTOCOLS, **sizes),
        Retrieval: build_protocol("retrieval_square", retrieval, **sizes),
    }
    images = Images("painted", labels=LABELS, length=4)
    return [
        kind(context(pictures=0, protocol=own, images=images)) for kind, own in protocols.items()
    ]


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
            callback.on_validation_batch_start(trainer, module, batch, number)
        for callback in callbacks:
            callback.on_validation_batch_end(trainer, module, None, batch, number)
    for callback in callbacks:
        callback.on_validation_epoch_end(trainer, module)
    return [callback.logged() for callback in callbacks]


def test_measures_of_equal_pixels_share_a_pass_and_score_as_each_alone(model):
    kept = []  # the passes that are kept, at each pass
    with model.image.tower.register_forward_hook(lambda *_: kept.append(model._passes)):
        together = evaluated(model, scorers())
        assert list(map(len, kept)) == [1, 1]  # of two batches
        kept.clear()
        assert together == [evaluated(model, [callback])[0] for callback in scorers()]
    assert list(map(len, kept)) == [1] * 6


WINDOWS = {"input_size": 64, "window": 64, "stride": 32, "vocabulary": "label_set"}


@pytest.mark.parametrize(
    ("name", "change", "passes"),
    [
        ("mmseg-448/tcl", {}, 1),
        ("mmseg-448", {"input_size": 80}, 2),
        ("mmseg-448", {"window": 48}, 2),
        ("mmseg-448", {"stride": 16}, 2),
        ("mmseg-448", {"reading": "maskclip"}, 2),
        ("mmseg-448", {"positions": "scale_factor"}, 2),
    ],
)
def test_windows_of_all_images_go_through_the_tower_together_and_once_for_equal_ones(
    model, name, change, passes
):
    batch = [noise(48, 64), noise(64, 48, seed=1)]
    protocols = [
        top_down_protocol("mmseg-448", **WINDOWS),
        top_down_protocol(name, **{**WINDOWS, **change}),
    ]
    alone = [cut_and_embed(model, batch, protocol) for protocol in protocols]
    shapes = []
    model.share_passes(True)
    with model.image.tower.register_forward_hook(
        lambda _, inputs, __: shapes.append(inputs[0].shape)
    ):
        together = [cut_and_embed(model, batch, protocol) for protocol in protocols]
    model.share_passes(False)
    assert (shapes[0], len(shapes)) == ((4, 3, 64, 64), passes)
    for one, other in zip(chain(*alone), chain(*together), strict=True):
        assert torch.equal(one.features, other.features)


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
