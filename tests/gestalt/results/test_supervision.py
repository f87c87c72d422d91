"""What a model and its scoring were allowed to see, from the fields of a results file."""

import pytest

from gestalt.results.supervision import OF_PAIRS, supervision

TABLE = {"source": "table", "root": "https://me:key@host/DIR/pairs.csv?key=1"}
CHOSEN = {"image_set": "scenes", "split": "tune", "images": 307}
PAIRS = "9,000 pairs of table pairs.csv"


def run(resolved, *, steps=8, calibration=None, image=(), **config):
    """The record of a run of 9,000 pairs whose init is ``dino``."""
    return {
        "config": {"image": {"backbone": "vit_small_patch16_224", **dict(image)}, **config},
        "image_init": {"requested": "dino", "resolved": resolved},
        "benchmarks": [{"calibration": calibration}],
        "data": {"samples": 9000, "bad_samples": {}},
        "steps": steps,
    }


def trained(resolved, **fields):
    return run(resolved, data=TABLE, **fields)


def external(name):
    """The record of another library's model."""
    init = {"requested": name, "resolved": "hf"}
    return {"config": {}, "image_init": init, "model": {}, "benchmarks": []}


def inits(used):
    return {"inits": {"dino": used}}


def test_what_training_pairs_share_with_the_benchmarks_is_counted():
    made = trained("dino")
    made["nouns"] = ["dog", "plant"]
    made["benchmarks"] = [
        {"set": "voc", "measure": "segmentation", "names": ["Potted plant", "dog", "cat"]},
        {"set": "birds", "measure": "segmentation", "names": ["bird"]},
    ]
    for entry in made["benchmarks"]:
        entry |= {"image_set": entry["set"], "images": 9}
    made["data"]["shared_images"] = {
        "voc": {"images": 9, "shared": 3},
        "birds": {"images": 7, "shared": 0},
    }
    found = supervision(made)
    assert found["classes_among_nouns"] == "2 of 3 of voc"
    assert found["shared_images"] == "3 of voc and unknown of birds"
    del made["data"]["bad_samples"]  # an evaluation
    assert not {*OF_PAIRS} & {*supervision(made)}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (trained("dino"), f"{PAIRS}; none; none; none"),
        (trained("augreg_in21k"), f"{PAIRS}; ImageNet-21k; none; none"),
        (
            trained("dino", image=inits("demo_supervised.safetensors")),
            f"{PAIRS}; classes of scenes; none; none",
        ),
        (
            trained("random", image={"family": "a"}),
            f"unknown and {PAIRS}; unknown; unknown; none",
        ),
        (trained("random", steps=0), "none; none; none; none"),
        (
            trained("x", start="classifier:resnet50.a1_in1k", evaluation={"prior": 0.1}),
            f"{PAIRS}; ImageNet-1k; none; unknown",
        ),
        (
            trained("dino", calibration=CHOSEN),
            f"{PAIRS}; none; none; scenes tune, 307 images",
        ),
        (
            {**trained("dino"), "checkpoint": "a/checkpoints/best.ckpt"},
            f"{PAIRS}; none; none; the checkpoint, by mIoU",
        ),
        (external("open_clip:ViT-B-32:openai"), "OpenAI's WIT-400M; none; none; none"),
        (external("open_clip:ViT-B-16-SigLIP2:webli"), "unknown; unknown; unknown; none"),
        (external("hf:./openai/clip"), "unknown; unknown; unknown; none"),
        ({"predictions": {"notes": {"masks": "COCO"}}}, "unknown; unknown; COCO; unknown"),
    ],
)
def test_supervision_follows_from_a_record(record, expected):
    found = supervision(record)
    shared = [found.pop(key) for key in OF_PAIRS if key in found]
    assert shared in ([], ["none", "unknown of None"])
    assert "; ".join(found.values()) == expected
