"""Supervision of a model and its scoring, from the fields of a results file."""

import pytest

from gestalt.results.supervision import supervision

TABLE = {"source": "table", "root": "https://me:key@host/DIR/pairs.csv?key=1"}
CHOSEN = {"image_set": "scenes", "split": "tune", "images": 307}
PAIRS = "9,000 pairs of table pairs.csv"


def trained(resolved, *, steps=8, calibration=None, image=(), **config):
    """The record of a run of 9,000 pairs whose init is ``dino``."""
    return {
        "config": {
            "image": {"backbone": "vit_small_patch16_224", **dict(image)},
            "data": TABLE,
            **config,
        },
        "image_init": {"requested": "dino", "resolved": resolved},
        "benchmarks": [{"calibration": calibration}],
        "data": {"samples": 9000},
        "steps": steps,
    }


def external(name):
    """The record of another library's model."""
    init = {"requested": name, "resolved": "hf"}
    return {"config": {}, "image_init": init, "model": {}, "benchmarks": []}


def test_what_training_pairs_share_with_the_benchmarks_is_counted():
    made = trained("dino")
    made["nouns"] = ["dog", "plant"]
    made["benchmarks"] = [
        {"set": "voc", "measure": "segmentation", "names": ["Potted plant", "dog", "cat"]},
        {"set": "birds", "measure": "segmentation", "names": ["bird"]},
    ]
    for entry in made["benchmarks"]:
        entry |= {"image_set": entry["set"], "images": 9}
    made["benchmarks"].append({"set": "voc", "left_out": "grouping"})
    made["data"]["bad_samples"] = {}
    made["data"]["shared_images"] = {
        "voc": {"images": 9, "shared": 3},
        "birds": {"images": 7, "shared": 0},
    }
    found = supervision(made)
    assert found["classes_among_nouns"] == "2 of 3 of voc"
    assert found["shared_images"] == "3 of voc and unknown of birds"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (trained("dino"), f"{PAIRS}; none; none; none"),
        (trained("augreg_in21k"), f"{PAIRS}; ImageNet-21k; none; none"),
        (
            trained("dino", image={"inits": {"dino": "demo_supervised.safetensors"}}),
            f"{PAIRS}; classes of scenes; none; none",
        ),
        (
            trained("random", image={"family": "a"}),
            f"unknown and {PAIRS}; unknown; unknown; none",
        ),
        (trained("random", steps=0), "none; none; none; none"),
        (trained("random") | {"interpolation": {"share": 0.0}}, "none; none; none; none"),
        (
            trained("x", start="classifier:resnet50.a1_in1k", evaluation={"prior": 0.1}),
            f"{PAIRS}; ImageNet-1k; none; unknown",
        ),
        (
            trained("dino", calibration=CHOSEN),
            f"{PAIRS}; none; none; scenes tune, 307 images",
        ),
        *(
            (trained("dino", start=start) | fields, f"{PAIRS}; none; none; {tuned}")
            for start, fields, tuned in (
                (None, {"checkpoint": "a/checkpoints/best.ckpt"}, "the checkpoint, by mIoU"),
                (None, {"exported_checkpoint": "best.ckpt"}, "the checkpoint, by mIoU"),
                ("text:a/best.ckpt", {}, "the checkpoint, by mIoU"),
                ("text:a", {}, "unknown"),
                ("text:open_clip:a", {}, "none"),
            )
        ),
        (external("open_clip:ViT-B-32:openai"), "OpenAI's WIT-400M; none; none; none"),
        (external("open_clip:ViT-B-16-SigLIP2:webli"), "unknown; unknown; unknown; none"),
        (external("hf:./openai/clip"), "unknown; unknown; unknown; none"),
        ({"predictions": {"notes": {"masks": "COCO"}}}, "unknown; unknown; COCO; unknown"),
    ],
)
def test_supervision_follows_from_a_record(record, expected):
    # without bad samples it is an evaluation, which lacks the fields of a run
    assert "; ".join(supervision(record).values()) == expected
