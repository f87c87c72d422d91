"""Class maps that are counted, whatever predicts them."""

import pytest
import torch

from gestalt.data_modules.validation import ImageSetDataset
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.pictures import read_predictions
from gestalt.measures.segmentation.class_maps import ClassMaps, write_extremes
from gestalt.results.run_record import costly_images
from tests.gestalt.measures.stage import LENGTH, Images, context
from tests.gestalt.painted import LABELS, blocky_label, painted


def test_an_evaluation_keeps_no_image_of_the_one_before():
    scorer = ClassMaps(context(pictures=0, protocol=TopDownProtocol(name="p")))
    for index in (1, 2):
        scorer.begin(None)
        image, label = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8)
        batch = {"sample_id": torch.tensor([index]), "name": ["one"], "image": image}
        scorer.score(None, batch | {"prediction": label}, label)
        scorer.scores = {"model": scorer.metrics["model"].compute()}
        assert [one.sample_id for one in scorer.predictions().images] == [index]


class Painted(Images):
    """Images that are read, each with another's map as prediction unless there is none."""

    predicted = True

    def sample(self, index):
        label, prediction = (blocky_label(4, 4, block=4, seed=seed) for seed in (index, index + 1))
        maps = {"prediction": prediction} if self.predicted else {}
        return {"image": painted(label), "labels": {"painted": label}, "name": f"a/{index}"} | maps


@pytest.mark.parametrize("written", [False, True])
def test_images_that_lose_most_to_a_cause_are_kept_with_their_maps(written, tmp_path, monkeypatch):
    monkeypatch.setattr("gestalt.measures.segmentation.extremes.PER_END", 1)
    images = Painted("painted", labels=LABELS)
    scorer = ClassMaps(context(images=images, pictures=0, protocol=TopDownProtocol(name="p")))
    scorer.begin(None)
    batch = ImageSetDataset(images)[list(range(LENGTH))]
    if written:
        images.predicted, scorer.needs, scorer.folder = False, ("labels",), tmp_path
    scorer.score(None, batch, batch["labels"]["painted"])
    scorer.scores = {"model": scorer.metrics["model"].compute()}
    write_extremes(tmp_path, [scorer], costly_images)
    ids = {one.sample_id for one in scorer.predictions().images}
    kept = read_predictions(tmp_path / "painted.npz").images
    assert {one.sample_id for one in kept} == {*costly_images(scorer)} | ids > ids
    for one in kept:
        assert (one.prediction == batch["prediction"][one.sample_id].numpy()).all()
        assert (one.label == batch["labels"]["painted"][one.sample_id].numpy()).all()
    scorer.folder, scorer.needs = None, ("labels",)
    assert len(scorer.predictions(costly_images).images) == len(ids)
