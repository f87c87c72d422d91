"""Published numbers: every row can be scored, and our number is printed beside the published
one.
"""

from types import SimpleNamespace

import pytest

from gestalt.commands import reproduce as command
from gestalt.config.loading import load
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.published import published, published_number
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.runs import score as scoring


def test_a_row_names_a_protocol_for_its_benchmark_and_settings_that_exist():
    for name, row in published().items():
        load(
            None,
            scale=None,
            overrides=[*row.overrides(), "data.source=scenes", "benchmark_root=DIR"],
        )
        if row.metric == "miou":
            labels = BENCHMARKS[row.benchmark].label_set
            assert top_down_protocol(row.protocol, label_set=labels).source, name
        assert 0 < row.value < 100, name
        assert row.source, name


@pytest.fixture
def asked(monkeypatch):
    """What is scored, a target and overrides a call, in place of which two numbers are known."""
    entry = {"set": "pascal_voc", "images": 1449, "images_in_set": 1449, "images_official": 1449}
    metrics = {"pascal_voc/miou": 0.591, "flickr30k_karpathy/text_to_image_recall_at_1": 0.6971}
    scored = SimpleNamespace(record={"metrics": metrics, "benchmarks": [entry]})
    calls = []
    monkeypatch.setattr(
        scoring, "open_target", lambda target, overrides, **_: calls.append((target, overrides))
    )
    monkeypatch.setattr(scoring, "score", lambda target, overrides: scored)
    return calls


def reproduce(name, *overrides, model=None):
    command.run(SimpleNamespace(name=name, model=model, overrides=[*overrides], output=None))


def test_both_numbers_and_their_difference_are_printed(asked, capsys):
    reproduce("sclip/voc21")
    assert (
        "sclip/voc21: published 59.63, ours 59.10, difference -0.53 (more than 0.5 points apart); "
        "all 1449 images" in capsys.readouterr().out
    )
    reproduce("openclip_t2i/flickr30k_karpathy")
    assert "published 69.84, ours 69.71, difference -0.13 (within" in capsys.readouterr().out
    words = ["evaluation.benchmarks=[flickr30k_karpathy]"]
    words += ["evaluation.retrieval_protocol=retrieval_crop"]
    assert asked[1] == ("open_clip:ViT-B-16:laion2b_s34b_b88k", words)


def test_another_model_and_further_settings_are_scored_and_named(asked, capsys):
    words = ["benchmark_root=DIR", "evaluation.refinement=pamr"]
    reproduce("sclip/voc21", *words, model="open_clip:here")
    said = capsys.readouterr().err
    assert "model was open_clip:here in place of open_clip:ViT-B-16-quickgelu:openai" in said
    # which may change the score
    assert "scored with evaluation.refinement=pamr besides the published settings" in said
    published = ["evaluation.benchmarks=[pascal_voc]", "evaluation.protocol=sclip-336/sclip"]
    assert asked == [("open_clip:here", [*published, *words])]


def test_missing_data_and_unknown_names_are_refused_with_the_remedy():
    with pytest.raises(
        ValueError,
        match=r"needs the data of pascal_voc; .*that holds VOCdevkit/VOC2012",
    ):
        command.check(SimpleNamespace(name="sclip/voc21", overrides=[]))
    with pytest.raises(ValueError, match="name it by --model python:tips:TipsL"):
        command.check(SimpleNamespace(name="tipsv2/ade20k", model=None, overrides=[]))
    with pytest.raises(
        ValueError,
        match=r"sclip/voc12: no such published number; .*reproduce` lists them",
    ):
        published_number("sclip/voc12")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("sclip/voc21", "evaluation.protocol=whole_square"),
        ("sclip/voc21", "evaluation.benchmarks=[ade20k]"),
        ("clippy/voc21", "evaluation.split=val"),  # 42.11 was measured on train
    ],
)
def test_the_settings_of_a_published_number_cannot_be_changed(name, word, refusal):
    assert (
        f"reproduce {name}: {word}: the published number was measured by evaluation."
    ) in refusal(f"reproduce {name} benchmark_root=DIR {word}")
