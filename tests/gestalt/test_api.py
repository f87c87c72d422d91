"""The Python API: it loads what the commands load, and gives what the engines give."""

import doctest
import inspect
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import gestalt
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol
from gestalt.measures.segmentation.segmented import label_prompts
from gestalt.support.faults import Caveat
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_config import tiny_config
from tests.gestalt.tiny_model import RUN, export, save_photo, save_run, tiny

LABELS = ["dog", "grass", "sky"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, an exported model and a picture."""
    folder = tmp_path_factory.mktemp("place")
    export(folder / "exported")
    save_run(folder)
    save_photo(folder / "photo.jpg")
    return folder


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def model(place):
    return gestalt.load(str(place / "exported"), "cpu")


def same_weights(first, second):
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize(
    "target", ["clippy_dino_max", str(RUN), str(RUN / "checkpoints" / "last.ckpt"), "exported"]
)
def test_every_kind_of_target_loads_the_same_weights(target):
    loaded = gestalt.load(target, "cpu")
    assert same_weights(loaded.encoder, tiny()[0])
    assert (loaded.name, loaded.device.type, loaded.dtype, loaded.encoder.training) == (
        target,
        "cpu",
        torch.float32,
        False,
    )


def test_loading_leaves_the_random_state_of_torch():
    before = torch.get_rng_state()
    gestalt.load("exported", "cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_segment_gives_the_same_map_as_the_engine(model):
    (picture,), _ = model._read(["photo.jpg"])
    result = model.segment("photo.jpg", LABELS)
    protocol = top_down_protocol("whole_square", input_size=32)
    prompts = label_prompts(model.encoder, LABELS, protocol=protocol)
    assert torch.equal(
        result.map,
        top_down(model.encoder, [picture], prompts=prompts, protocol=protocol)[0].prediction,
    )
    shares = [(result.map == index).float().mean().item() for index in range(3)]
    assert list(result.areas.values()) == pytest.approx(shares)
    assert torch.equal(result.image, picture)


def test_similarity_is_the_cosine_of_locations_and_texts_as_they_are_written(model):
    locations = model.encoder.embed_patches(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))[0]
    maps = model.similarity(torch.zeros(3, 32, 32), ["a dog", "two apples"])
    assert torch.allclose(
        maps,
        torch.einsum("ke,ehw->khw", model.embed_text(["a dog", "two apples"]), locations),
        atol=1e-6,
    )


def test_a_list_of_pictures_gives_the_results_of_single_pictures(model):
    pictures = ["photo.jpg", Image.new("RGB", (20, 40), "green"), np.zeros((64, 9, 3), np.uint8)]
    for result, picture in zip(model.segment(pictures, LABELS), pictures, strict=True):
        assert torch.equal(result.map, model.segment(picture, LABELS).map)
    assert [groups.shape for groups in model.group(pictures, 4)] == [(33, 50), (40, 20), (64, 9)]
    assert torch.allclose(model.embed_image(pictures)[1], model.embed_image(pictures[1]), atol=1e-6)
    assert torch.allclose(
        model.similarity(pictures, ["a"])[2], model.similarity(pictures[2], ["a"]), atol=1e-6
    )


def test_group_gives_the_same_groups_as_the_engine(model):
    (picture,), _ = model._read(["photo.jpg"])
    protocol = build_protocol("kmeans_square", GROUPING_PROTOCOLS, groups=5, input_size=32)
    assert torch.equal(
        model.group("photo.jpg", 5, protocol="kmeans_square"),
        bottom_up(model.encoder, [picture], protocol=protocol)[0].groups,
    )


def test_segmenting_by_one_label_requires_a_threshold(model):
    with pytest.raises(ValueError, match="every pixel would have the only label"):
        model.segment("photo.jpg", ["dog"])
    with pytest.raises(ValueError, match=r"threshold is '0.2', of type str; give a number, such"):
        model.segment("photo.jpg", ["dog"], threshold="0.2")
    most = model.segment("photo.jpg", ["dog"], threshold=-1.0).scores["dog"].max
    assert model.segment("photo.jpg", ["dog"], threshold=-1.0).areas == {"dog": 1.0}
    nothing = model.segment("photo.jpg", ["dog"], threshold=min(1.0, most + 0.01))
    assert (nothing.areas, nothing.map.unique().tolist()) == ({"dog": 0.0}, [255])
    assert np.array_equal(np.asarray(nothing.overlay()), nothing.image.permute(1, 2, 0).numpy())


def test_the_prior_of_a_model_weighs_a_label_background_alone(model):
    weighed = gestalt.load(model.name, device="cpu", overrides=["evaluation.prior=0.5"])
    pair = weighed, model
    same, plain = (one.segment("photo.jpg", ["dog", "cat"]).map for one in pair)
    assert torch.equal(same, plain)
    more, plain = (one.segment("photo.jpg", ["background", "dog"]).areas for one in pair)
    assert more["background"] > plain["background"]


def test_a_threshold_takes_the_place_of_the_prior_and_says_so_of_a_label_background(model):
    weighed = gestalt.load(model.name, device="cpu", overrides=["evaluation.prior=0.5"])
    for labels, warned in ((["background", "dog"], 1), (["grass", "dog"], 0)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = weighed.segment("photo.jpg", labels, threshold=0.01)
        said = [str(warning.message) for warning in caught if "prior" in str(warning.message)]
        assert [text.partition(", ")[0] for text in said] == [
            "threshold=0.01 takes the place of the prior of the label background"
        ] * warned
        same = model.segment("photo.jpg", labels, threshold=0.01)
        assert torch.equal(result.map, same.map)


def test_a_threshold_switches_off_a_crf_and_says_so(model, monkeypatch):
    monkeypatch.setattr("gestalt.measures.segmentation.configured.find_spec", bool)
    refined = gestalt.load(model.name, device="cpu", overrides=["evaluation.refinement=crf"])
    with pytest.warns(Caveat, match=r"^threshold=0.01 switches off refinement=crf: .*; leave"):
        result = refined.segment("photo.jpg", ["dog"], threshold=0.01)
    assert torch.equal(result.map, model.segment("photo.jpg", ["dog"], threshold=0.01).map)


def test_every_protocol_takes_a_picture_with_and_without_a_threshold(model):
    from gestalt.api import segmentation_protocol

    for name in set(PRESETS) - {"clippy-repo", "sclip-336/proxyclip"}:
        plain = segmentation_protocol(model, protocol=name)
        assert plain.background in ("prompts", "threshold"), name
        chosen = segmentation_protocol(model, protocol=name, threshold=0.2)
        assert (chosen.threshold, chosen.refinement) == (0.2, plain.refinement), name


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float64])
def test_a_model_can_be_loaded_in_another_dtype(dtype):
    loaded = gestalt.load("exported", "cpu", dtype=dtype)
    assert loaded.dtype == (torch.bfloat16 if dtype == "bfloat16" else dtype)
    assert loaded.segment("photo.jpg", LABELS).map.shape == (33, 50)
    assert loaded.embed_image("photo.jpg").dtype == torch.float32
    assert loaded.to(dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: gestalt.load("clippy_dino_mix"), "neither a checkpoint, nor a run's folder"),
        (
            lambda model: gestalt.load("exported", "gpu"),
            "device=gpu: torch has no such device on this machine; choose cpu",
        ),
        (lambda model: model.segment("none.jpg", LABELS), "none.jpg: no such file"),
        (
            lambda model: model.segment("photo.jpg", "dog, cat"),
            "labels is 'dog, cat', of type str; give a list of texts, such as ['dog', 'grass']",
        ),
        (lambda model: model.segment("photo.jpg", ["dog", "dog"]), "a label is repeated"),
        (lambda model: model.segment("photo.jpg", ["dog", "a\ud800"]), r"\ud800' has a surrogate"),
        (lambda model: model.embed_text(" "), "give at least one text, and at least a letter"),
        (lambda model: model.to(dtype=torch.zeros(2)), "choose float32"),
        (lambda model: gestalt.ZeroShot("scenes", model={3: len}), "functions are named 3; give"),
        (
            lambda model: model.group("photo.jpg", 0),
            "groups is 0, choose a whole number from 1 to 254",
        ),
        (
            lambda model: model.forward_intermediates(["photo.jpg", torch.zeros(3, 8, 8)]),
            "the pictures have several sizes",
        ),
    ],
)
def test_a_mistake_is_refused_in_one_line(model, call, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 -- the message is compared below
        call(model)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


TOWERS = tiny()[0].image_tower, tiny()[0].text_tower
load_module = gestalt.ContrastiveModule.load_from_checkpoint
CALLS = [
    ("target", lambda model, value: gestalt.load(value)),
    ("overrides", lambda model, value: gestalt.load("exported", "cpu", overrides=value)),
    ("name", lambda model, value: gestalt.experiment(value)),
    ("scale", lambda model, value: gestalt.experiment("clippy_dino_max", scale=value)),
    ("experiment", lambda model, value: gestalt.build(value)),
    ("experiment", lambda model, value: gestalt.train(value)),
    ("module", lambda model, value: gestalt.build(tiny_config(), module=value)),
    ("model", lambda model, value: gestalt.ContrastiveModule(value)),
    ("terms", lambda model, value: gestalt.ContrastiveModule(tiny()[0], terms=value)),
    ("weights", lambda model, value: gestalt.ContrastiveModule(tiny()[0], weights=value)),
    ("size", lambda model, value: gestalt.ImageTextDataModule([], size=value, batch_size=2)),
    ("batch_size", lambda model, value: gestalt.ImageTextDataModule([], size=8, batch_size=value)),
    ("width", lambda model, value: gestalt.DualEncoder(*TOWERS, width=value)),
    ("checkpoint_path", lambda model, value: load_module(value, model=model.encoder)),
    ("checkpoint_path", lambda model, value: load_module(value)),
    ("texts", lambda model, value: model.embed_text(value)),
    ("texts", lambda model, value: model.similarity("photo.jpg", value)),
    ("labels", lambda model, value: model.segment("photo.jpg", value)),
    ("protocol", lambda model, value: model.segment("photo.jpg", LABELS, protocol=value)),
    ("reading", lambda model, value: model.segment("photo.jpg", LABELS, reading=value)),
    ("templates", lambda model, value: model.segment("photo.jpg", LABELS, templates=value)),
    ("threshold", lambda model, value: model.segment("photo.jpg", LABELS, threshold=value)),
    ("protocol", lambda model, value: model.group("photo.jpg", protocol=value)),
    ("path", lambda model, value: model.segment("photo.jpg", LABELS).save(value)),
    ("alpha", lambda model, value: model.segment("photo.jpg", LABELS).overlay(alpha=value)),
]
"""An argument of a public function, and a call that gives it a value."""


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_a_value_of_a_wrong_type_is_refused_by_the_name_of_its_argument(model, name, call):
    sentence = rf"^(an element of )?{name} is .+, of type (object|list|NoneType); give \w.+"
    for wrong in (object(), [None]):
        with pytest.raises(ValueError, match=sentence) as raised:
            call(model, wrong)
        assert "\n" not in str(raised.value)


def saved_timm(folder):
    """Write a tiny timm ViT with weights, as timm's ``save_for_hf`` does."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224", depth=3, embed_dim=24, num_heads=2, img_size=32, num_classes=0
    )
    sizes = {"depth": 3, "embed_dim": 24, "num_heads": 2, "img_size": 32}
    save_for_hf(vit, folder, model_args=sizes)
    return vit.eval()


@pytest.mark.parametrize(
    "options",
    [{}, {"indices": [0, 2], "output_fmt": "NLC", "norm": True, "intermediates_only": True}],
)
def test_intermediates_are_those_of_timm(model, tmp_path, options):
    vit = saved_timm(tmp_path / "vit")
    pictures = random_pixels(2, 3, 32, 48)
    loaded = gestalt.load(f"timm:{tmp_path / 'vit'}", "cpu")
    vit.set_input_size(img_size=(32, 48))
    ours = loaded.forward_intermediates(pictures, **options)
    theirs = vit.forward_intermediates(
        (pictures / 255 - loaded.encoder.mean) / loaded.encoder.std, **options
    )
    assert_close(flat(ours), flat(theirs), atol=1e-5, rtol=0)
    tower = model.encoder.image_tower
    theirs = tower.trunk.forward_intermediates(
        (pictures / 255 - tower.mean) / tower.std, **{**options, "indices": 1}
    )
    ours = model.forward_intermediates(pictures / 255, **{**options, "indices": 1})
    assert_close(flat(ours), flat(theirs), atol=1e-5, rtol=0)


def flat(result):
    return result if isinstance(result, list) else [result[0], *result[1]]


def public():
    """The functions, classes, methods and properties that a user calls, of whom a Trainer calls
    those of modules and callbacks; the example of ``train`` prints a run.
    """
    for name in sorted({*gestalt.__all__} - {"train"}):
        thing = getattr(gestalt, name)
        yield thing
        if thing in (gestalt.Model, gestalt.SegmentedImage):
            yield from (
                member
                for key, member in vars(thing).items()
                if not key.startswith("_") and inspect.isfunction(member)
            )


@pytest.mark.parametrize("thing", list(public()), ids=lambda thing: thing.__qualname__)
def test_docstring_examples_run_with_the_shown_output(model, thing, capsys):
    tiny = gestalt.experiment("clippy_dino_max", scale="tiny")
    given = {"gestalt": gestalt, "model": model, "torch": torch, "experiment": tiny}
    (example,) = doctest.DocTestFinder(recurse=False).find(thing, thing.__qualname__, globs=given)
    assert example.examples, f"{thing.__qualname__} has no example"
    failed = doctest.DocTestRunner().run(example).failed
    assert not failed, capsys.readouterr().out


def test_a_model_of_scenes_warns_at_its_first_picture_and_only_then():
    loaded = gestalt.load("exported", "cpu")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded.embed_text(["a dog"])
        assert not caught
        for _ in range(2):
            loaded.segment("photo.jpg", LABELS)
            loaded.group("photo.jpg", 3)
    (warning,) = caught
    assert (warning.category, warning.filename) == (Caveat, __file__)
    assert "trained on generated scenes alone: expect noise on photographs" in str(warning.message)
