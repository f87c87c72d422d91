"""Published numbers: every row can be scored, and our number is printed beside the published
one.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from gestalt.commands import reproduce as command
from gestalt.config.loading import load
from gestalt.data_modules.tools.get import ELSEWHERE, SETS
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.published import published, published_number, published_on
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.runs import evaluation
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


class Photographs(list):
    paths = (Path(__file__),)


@pytest.fixture
def asked(monkeypatch):
    """A command in whose place two numbers are known; ``words`` has the target and the overrides of
    each call.
    """
    entry = {"set": "pascal_voc", "images": 1449, "images_in_set": 1449, "images_official": 1449}
    flickr = {"set": "flickr30k_karpathy", "images": 1000, "images_official": 1000}
    metrics = {"pascal_voc/miou": 0.591, "flickr30k_karpathy/text_to_image_recall_at_1": 0.6971}
    scored = SimpleNamespace(record={"metrics": metrics, "benchmarks": [entry, flickr]})
    calls = SimpleNamespace(words=[], entry=entry, metrics=metrics)

    def open_target(target, overrides, **_):
        calls.words.append((target, overrides))
        return SimpleNamespace(config=None, model=nn.Linear(2, 1))

    monkeypatch.setattr(scoring, "open_target", open_target)
    monkeypatch.setattr(scoring, "score", lambda target, overrides: scored)
    monkeypatch.setattr(evaluation, "build_image_sets", lambda _: {"": Photographs("ab")})
    return calls


def reproduce(name, *overrides, model=None):
    return command.run(SimpleNamespace(name=name, model=model, checked=[*overrides], output=None))


@pytest.mark.parametrize(
    ("ours", "images", "words", "status", "verdict"),
    [
        (0.591, 1449, [], 1, "fail (tolerance 0.5 points, all 1449 images)"),
        (
            0.59127,
            1449,
            ["evaluation.prompt_cache=false"],
            0,
            "pass (tolerance 0.5 points, all 1449",
        ),
        (0.5963, 125, [], 1, "no verdict (125 of 1449 images were scored)"),
        (0.5963, 1449, ["image.eval_size=8"], 1, "no verdict (scored with image.eval_size=8)"),
    ],
)
def test_a_verdict_needs_the_whole_set_and_the_published_settings(
    ours, images, words, status, verdict, asked, capsys
):
    asked.metrics["pascal_voc/miou"] = ours
    asked.entry["images"] = images
    assert reproduce("sclip/voc21", *words) == status
    said = capsys.readouterr()
    assert f"published 59.63, ours {100 * ours:.2f}, difference " in said.out
    assert f": {verdict}" in said.out
    stored = Path(__file__).stat().st_size / 1000
    assert f"sclip/voc21: 2 images of {stored:.4g} kB, weights of 12 B; the time" in said.err


def test_the_words_and_another_model_are_scored_and_named(asked, capsys):
    assert reproduce("openclip_t2i/flickr30k_karpathy", model="open_clip:here") == 0
    said = capsys.readouterr()
    assert "published 69.84, ours 69.71, difference -0.13: pass" in said.out
    assert "model was open_clip:here in place of open_clip:ViT-B-16:laion2b_s34b_b88k" in said.err
    words = ["evaluation.benchmarks=[flickr30k_karpathy]"]
    words += ["evaluation.retrieval_protocol=retrieval_crop"]
    assert asked.words == [("open_clip:here", words)]


def test_the_time_of_a_set_is_said_by_its_first_images(monkeypatch, capsys):
    times = iter([10, 16])
    monkeypatch.setattr(scoring.time, "monotonic", lambda: next(times))
    forecast, trainer = scoring.Forecast(), SimpleNamespace(num_val_batches=[2, 104])
    for number in range(5):
        forecast.on_validation_batch_end(trainer, None, None, {"set": "voc"}, number, 1)
    assert capsys.readouterr().err == "voc: about 3 min 20 s to go, by its first images\n"


def test_data_that_were_downloaded_are_found_without_a_word(cwd, monkeypatch):
    monkeypatch.setattr(command, "SETS", {"pascal_voc": SimpleNamespace(missing=lambda root: "")})
    words = command.check(SimpleNamespace(name="sclip/voc21", model=None, overrides=[]))
    assert words == ["benchmark_root=data"]
    assert published_on(["coco_val"]) == []
    assert {name for row in BENCHMARKS.values() for name in row.sets} <= {*SETS, *ELSEWHERE}


def test_missing_data_and_unknown_names_are_refused_with_the_remedy():
    with pytest.raises(
        ValueError,
        match=r"data of pascal_voc; run `gestalt data get pascal_voc`, or .*VOCdevkit/VOC2012",
    ):
        command.check(SimpleNamespace(name="sclip/voc21", overrides=[]))
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
