"""Protocols: frozen, hashed, and refused when they contradict themselves."""

import dataclasses
from typing import Any

import pytest

from gestalt.evaluation.protocols import TEMPLATES
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol
from gestalt.measures.segmentation.protocol import Crf, TopDownProtocol

OTHERS: dict[str, dict[str, Any]] = {
    "name": {"name": "another"},
    "version": {"version": 2},
    "input_size": {"input_size": 64},
    "resize": {"resize": "short_side"},
    "multiple": {"multiple": 8},
    "long_limit": {"resize": "keep_ratio", "long_limit": 2048},
    "rounding": {"rounding": "truncate"},
    "interpolation": {"interpolation": "bilinear"},
    "antialias": {"antialias": False},
    "templates": {"templates": ("{}",)},
    "ensembling": {"ensembling": "raw_mean"},
    "article": {"article": "letter"},
    "lower_case": {"lower_case": False},
    "vocabulary": {"vocabulary": "tcl"},
    "defects": {"defects": "fixed"},
    "window": {"window": 64, "stride": 64},
    "stride": {"window": 64, "stride": 32},
    "fit": {"fit": "stretch"},
    "scores": {"scores": "sigmoid"},
    "score_scale": {"score_scale": 10.0},
    "score_bias": {"score_bias": -2.5},
    "top_classes": {"scores": "affinity", "top_classes": 5},
    "window_upsample": {"window_upsample": "nearest"},
    "background": {"background": "threshold", "threshold": 0.1},
    "threshold": {"background": "threshold", "threshold": 0.2},
    "logit_scale": {"logit_scale": 40.0},
    "area_threshold": {"background": "probability", "threshold": 0.1, "area_threshold": 0.1},
    "label_resolution": {"label_resolution": "squashed"},
    "refinement": {"refinement": "pamr"},
    "refined_at": {"refined_at": "grid"},
    "refinement_iterations": {"refinement_iterations": 50},
    "refinement_dilations": {"refinement_dilations": (1, 2)},
    "crf": {"refinement": "crf", "crf": Crf(colour_std=5.0)},
    "reading": {"reading": "naclip"},
    "positions": {"positions": "scale_factor"},
    "proxy": {"reading": "proxyclip", "proxy": "timm:vit_small_patch16_224.dino"},
    "debias": {"debias": "largest"},
    "debias_images": {"debias": "largest", "debias_images": 100},
    "image_weight": {"image_weight": 0.25},
    "left_out": {"left_out": ("its attention",)},
    "ours": {"ours": ("its size",)},
}
"""Every field, and what changes it."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_protocol_has_the_name_of_its_row_and_is_immutable(name: str) -> None:
    protocol = top_down_protocol(name)
    assert protocol.name == {"sclip-336": "sclip-336/sclip", "clearclip-448": "clearclip-448/clearclip"}.get(name, name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.input_size = 1  # type: ignore[misc]


def test_the_digest_is_the_same_on_every_machine() -> None:
    assert TopDownProtocol(name="golden").digest() == "70eb8801a1662cb7"


def test_every_field_except_the_source_is_part_of_the_digest() -> None:
    base = TopDownProtocol(name="base")
    digests = {base.digest()} | {dataclasses.replace(base, **changes).digest() for changes in OTHERS.values()}
    assert len(digests) == len(OTHERS) + 1
    assert {field.name for field in dataclasses.fields(base)} == {*OTHERS, "upsample", "source"}
    assert dataclasses.replace(base, source="elsewhere").digest() == base.digest()


@pytest.mark.parametrize(
    ("size", "target"),
    [((333, 500), (448, 672)), ((500, 333), (672, 448)), ((300, 425), (448, 640)), ((100, 100), (448, 448)), ((1, 2000), (448, 896_000))],
)
def test_short_side_keeps_the_aspect_to_the_nearest_multiple(size: tuple[int, int], target: tuple[int, int]) -> None:
    assert top_down_protocol("whole_short_side").target_size(*size) == target


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("whole_sqare", {}, "unknown protocol 'whole_sqare'. did you mean 'whole_square'"),
        ("whole_square", {"input_size": 0}, "input_size is 0"),
        ("whole_square", {"threshold": 0.2}, "background=prompts with threshold=0.2"),
        ("whole_square", {"background": "threshold"}, "background=threshold with threshold=None"),
        ("mmseg-448/tcl", {"threshold": -0.1}, "it lies in .0, 1"),
        ("mmseg-448/tcl", {"refinement": "crf"}, "refinement=crf does not go with scores=sigmoid; choose cosine"),
        ("dinotxt-512", {"refinement": "pamr"}, "refinement=pamr at refined_at=label does not go with scores=softmax"),
        ("whole_square", {"refinement": "crf", "background": "threshold", "threshold": 0.2}, "choose prompts or probability"),
        ("whole_square", {"refinement": "crf", "crf": Crf(colour_std=0)}, "crf.colour_std is 0, a finite number of at least 1e-06"),
    ],
)
def test_an_impossible_protocol_is_refused_with_an_explanation(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        top_down_protocol(name, **changes)


def test_a_protocol_without_an_input_size_uses_that_of_the_tower() -> None:
    assert top_down_protocol("whole_square", tower_size=96).input_size == 96
    assert top_down_protocol("mmseg-448", tower_size=96).input_size == 448
    assert top_down_protocol("mmseg-448", tower_size=96, input_size=64).input_size == 64


def test_tcl_without_pamr_has_another_default_threshold_that_can_be_overridden() -> None:
    usual, bare = (
        top_down_protocol("mmseg-448/tcl", label_set="voc21"),
        top_down_protocol("mmseg-448/tcl", label_set="voc21", refinement="none"),
    )
    assert (usual.threshold, bare.threshold) == (0.4, 0.5)
    assert set(usual.left_out) - set(bare.left_out) == {"30 % of the mask from a frozen CLIP (kp_weight 0.3)"}
    assert "configs/default.yml" in bare.source
    assert usual.digest() != bare.digest()
    assert top_down_protocol("mmseg-448/tcl", refinement="pamr") == top_down_protocol("mmseg-448/tcl")
    assert top_down_protocol("mmseg-448/tcl", refinement="none", threshold=0.3).threshold == 0.3
    assert top_down_protocol("mmseg-448/tcl", label_set="voc20", has_background=False, refinement="none").threshold is None
    assert top_down_protocol("mmseg-448/tcl", refinement="none", background="prompts").threshold is None


def test_templates_equal_the_published_ones() -> None:
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    assert TEMPLATES["openai_80"] == tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    assert [len(TEMPLATES[name]) for name in ("openai_80", "openai_7", "tcl_9", "one")] == [80, 7, 9, 1]
    assert TEMPLATES["tcl_9"][:7] == TEMPLATES["openai_7"]


def test_a_threshold_without_a_background_names_the_label_set() -> None:
    with pytest.raises(ValueError, match=r"threshold=0\.3 is for a background class, ade20k_150 has none"):
        top_down_protocol("sclip-336", label_set="ade20k_150", has_background=False, threshold=0.3)
    assert top_down_protocol("sclip-336", label_set="voc21", threshold=0.3).threshold == 0.3
