"""Protocols: frozen, hashed, and refused when they contradict themselves."""

import dataclasses

import pytest

from gestalt.measures.dense.protocol import Crf, TopDownProtocol
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.protocols import TEMPLATES
from gestalt.measures.keys import Evaluation
from gestalt.measures.segmentation.configured import check_evaluation, segmentation_protocol
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol
from gestalt.support.typed import ConfigError


@pytest.mark.laws(PRESETS)
def test_a_protocol_has_the_name_of_its_row(name):
    assert top_down_protocol(name).name == {
        "sclip-336": "sclip-336/sclip",
        "clearclip-448": "clearclip-448/clearclip",
    }.get(name, name)


def test_the_digest_is_the_same_on_every_machine():
    assert TopDownProtocol(name="golden").digest() == "70eb8801a1662cb7"
    assert TopDownProtocol(name="golden", prior=0.1).digest() == "de5bc8055f397554"


def test_an_offset_of_0_is_an_offset():
    evaluation = Evaluation(benchmarks=["scenes"], prior=0.1, prior_offset=0.0)
    protocol = segmentation_protocol(evaluation, BENCHMARKS["scenes"], size=32)
    assert protocol.prior_offset == 0
    evaluation.prior = None
    with pytest.raises(ConfigError, match=r"prior_offset=0.0: without a prior it has no effect"):
        check_evaluation(evaluation)


def test_every_field_except_the_source_is_part_of_the_digest(monkeypatch):
    changes = {
        "refinement": "crf",
        "reading": "proxyclip",
        "proxy": "timm:a",
        "positions": "scale_factor",
        "debias": "largest",
    }
    # off the defaults at which a field is left out
    base = TopDownProtocol(name="base", image_weight=0.25, prior=0.1, **changes)
    fields, digests = base.fields(), {base.digest()}
    assert set(fields) == {field.name for field in dataclasses.fields(base)}
    for key in fields:
        monkeypatch.setattr(
            TopDownProtocol, "fields", lambda _, key=key: {**fields, key: "another"}
        )
        digests.add(base.digest())
    assert len(digests) == len(fields)  # the source changes nothing


@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((333, 500), (448, 672)),
        ((500, 333), (672, 448)),
        ((300, 425), (448, 640)),
        ((100, 100), (448, 448)),
        ((1, 2000), (448, 896_000)),
    ],
)
def test_short_side_keeps_the_aspect_to_the_nearest_multiple(size, target):
    assert top_down_protocol("whole_short_side").target_size(*size) == target


@pytest.mark.parametrize(
    ("stride", "multiple"), [((8, 8), 32), ((16, 32), 32), ((14, 14), 14), ((16, 24), 48)]
)
def test_sides_are_multiples_of_a_stride_that_does_not_divide_the_protocols(stride, multiple):
    protocol = top_down_protocol("whole_short_side").fitted_to(stride)
    assert protocol.multiple == multiple
    square = top_down_protocol("whole_square")
    assert square.fitted_to(stride) is square


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("whole_sqare", {}, "unknown protocol 'whole_sqare'. did you mean 'whole_square'"),
        ("whole_square", {"input_size": 0}, "input_size is 0"),
        ("whole_square", {"threshold": 0.2}, "background=prompts with threshold=0.2"),
        ("whole_square", {"background": "threshold"}, "background=threshold with threshold=None"),
        ("mmseg-448/tcl", {"threshold": -0.1}, "it is in .0, 1"),
        ("mmseg-448/tcl", {"prior": 0.1}, "prior=0.1 does not go with scores=sigmoid"),
        (
            "mmseg-448/tcl",
            {"refinement": "crf"},
            "refinement=crf does not go with scores=sigmoid",
        ),
        (
            "dinotxt-512",
            {"refinement": "pamr"},
            "refinement=pamr at refined_at=label does not go with scores=softmax",
        ),
        (
            "whole_square",
            {"refinement": "crf", "background": "threshold", "threshold": 0.2},
            "background=prompts or probability",
        ),
        (
            "whole_square",
            {"refinement": "crf", "crf": Crf(colour_std=0)},
            "crf.colour_std is 0, a finite number of at least 1e-06",
        ),
    ],
)
def test_an_impossible_protocol_is_refused_with_an_explanation(name, changes, message):
    with pytest.raises(ValueError, match=message):
        top_down_protocol(name, **changes)


def test_a_protocol_without_an_input_size_uses_that_of_the_tower():
    assert top_down_protocol("whole_square", tower_size=96).input_size == 96
    assert top_down_protocol("mmseg-448", tower_size=96).input_size == 448
    assert top_down_protocol("mmseg-448", tower_size=96, input_size=64).input_size == 64


def test_tcl_without_pamr_has_another_default_threshold_that_can_be_overridden():
    usual, bare = (
        top_down_protocol("mmseg-448/tcl", label_set="voc21"),
        top_down_protocol("mmseg-448/tcl", label_set="voc21", refinement="none"),
    )
    assert (usual.threshold, bare.threshold) == (0.4, 0.5)
    assert set(usual.left_out) - set(bare.left_out) == {
        "30 % of the mask from a frozen CLIP (kp_weight 0.3)"
    }
    assert "configs/default.yml" in bare.source
    assert usual.digest() != bare.digest()
    assert top_down_protocol("mmseg-448/tcl", refinement="pamr") == top_down_protocol(
        "mmseg-448/tcl"
    )
    assert top_down_protocol("mmseg-448/tcl", refinement="none", threshold=0.3).threshold == 0.3
    assert (
        top_down_protocol(
            "mmseg-448/tcl", label_set="voc20", has_background=False, refinement="none"
        ).threshold
        is None
    )
    assert (
        top_down_protocol("mmseg-448/tcl", refinement="none", background="prompts").threshold
        is None
    )


def test_templates_equal_the_published_ones():
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    assert TEMPLATES["openai_80"] == tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    assert [len(TEMPLATES[name]) for name in ("openai_80", "openai_7", "tcl_9", "one")] == [
        80,
        7,
        9,
        1,
    ]
    assert TEMPLATES["tcl_9"][:7] == TEMPLATES["openai_7"]


def test_a_threshold_without_a_background_names_the_label_set():
    with pytest.raises(
        ValueError, match=r"threshold=0\.3 is for a background class, ade20k_150 has none"
    ):
        top_down_protocol("sclip-336", label_set="ade20k_150", has_background=False, threshold=0.3)
    assert top_down_protocol("sclip-336", label_set="voc21", threshold=0.3).threshold == 0.3
