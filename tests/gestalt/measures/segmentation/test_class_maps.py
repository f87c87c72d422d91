"""Class maps that are counted, whatever predicts them."""

import torch

from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.segmentation.class_maps import ClassMaps
from tests.gestalt.measures.stage import context


def test_an_evaluation_keeps_no_image_of_the_one_before():
    scorer = ClassMaps(context(pictures=0, protocol=TopDownProtocol(name="p")))
    for index in (1, 2):
        scorer.begin(None)
        image, label = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8)
        batch = {"sample_id": torch.tensor([index]), "name": ["one"], "image": image}
        scorer.score(None, batch | {"prediction": label}, label)
        scorer.scores = {"model": scorer.metrics["model"].compute()}
        assert [one.sample_id for one in scorer.predictions().images] == [index]
