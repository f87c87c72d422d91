"""A protocol's label resolution, and label sets that share images, in the callback that scores them."""

import torch
from torch import Tensor

from gestalt.evaluation.images import SharedImages, squashed
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.painted import LABELS, PaintedModel, Words, blocky_label, painted


class Counting(PaintedModel):
    """Counts its passes."""

    passes = 0

    def embed_patches(self, images: Tensor, **reading) -> Tensor:
        self.passes += 1
        return super().embed_patches(images)


def test_two_label_sets_of_one_batch_take_one_pass_of_the_tower() -> None:
    model, label = Counting(), blocky_label(8, 8, block=4, seed=0)
    foreground = Words(LABELS.names[1:], prompts=LABELS.prompts[1:])
    protocol = top_down_protocol("whole_square", input_size=32)
    scorers = [
        Segmentation(name, labels=labels, protocol=protocol, length=1, pictures=0, image_set="painted")
        for name, labels in (("all", LABELS), ("foreground", foreground))
    ]
    labels = {"all": [label], "foreground": [torch.where(label == 0, 255, label - 1)]}
    for _ in range(2):
        batch = {"set": "painted", "image": SharedImages([painted(label)]), "labels": labels, "sample_id": torch.tensor([0]), "name": ["0"]}
        for scorer in scorers:
            scorer.begin(model)
        for scorer in scorers:
            scorer.score(model, batch, scorer.truth(batch))
    assert model.passes == 2


def test_a_label_is_squashed_to_nearest_pixels_and_scored_at_that_size() -> None:
    label = torch.arange(24, dtype=torch.uint8).reshape(4, 6)
    assert squashed(label, side=2).tolist() == [[7, 10], [19, 22]]
    protocol = top_down_protocol("clippy-repo", input_size=32, vocabulary="label_set")
    scorer = Segmentation("painted", labels=LABELS, protocol=protocol, length=1, pictures=0)
    label = blocky_label(6, 9, block=4, seed=0)
    scorer.begin(PaintedModel())
    batch = {"image": [painted(label)], "labels": {"painted": [label]}, "sample_id": torch.tensor([0]), "name": ["0"]}
    assert scorer.truth(batch)[0].shape == (32, 32)
    assert [tuple(one.shape) for one in scorer.score(PaintedModel(), batch, scorer.truth(batch))] == [(32, 32)]
