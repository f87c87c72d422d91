"""A protocol's label resolution, and label sets that share images, in the callback that scores
them.
"""

import torch

from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.measures.stage import context
from tests.gestalt.painted import PaintedModel, blocky_label, painted


def test_a_label_is_squashed_to_nearest_pixels_and_scored_at_that_size():
    protocol = top_down_protocol("clippy-repo", input_size=32, vocabulary="label_set")
    scorer = Segmentation(context(pictures=0, protocol=protocol))
    label = blocky_label(6, 9, seed=0)
    scorer.begin(PaintedModel())
    batch = {
        "image": [painted(label)],
        "labels": {"painted": [label]},
        "sample_id": torch.tensor([0]),
        "name": ["0"],
    }
    assert scorer.truth(batch)[0].shape == (32, 32)
    assert [
        tuple(one.shape) for one in scorer.score(PaintedModel(), batch, scorer.truth(batch))
    ] == [(32, 32)]


def test_classes_are_embedded_to_be_compared_with_locations(monkeypatch):
    model, seen = PaintedModel(), []

    def embed(texts, **raw):
        seen.extend(texts)
        return PaintedModel.embed_text(model, texts, **raw)

    monkeypatch.setattr(model, "embed_text_for_locations", embed, raising=False)
    Segmentation(context()).begin(model)
    assert seen
