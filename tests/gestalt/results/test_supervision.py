"""What a model and its scoring were allowed to see, from the fields of a record."""

import pytest

from gestalt.results.supervision import supervision

TABLE = {"source": "table", "root": "https://me:key@host/DIR/pairs.csv?key=1"}
MIXTURE = {"source": "mixture", "mixture": [TABLE, {"source": "scenes"}]}
CHOSEN = {"image_set": "scenes", "split": "tune", "images": 307}


def run(resolved, *, data=TABLE, steps=8, calibration=None, image=(), **config):
    """The record of a run of 9 pairs whose init is ``dino``."""
    return {
        "config": {"image": dict(image), "data": data, **config},
        "image_init": {"requested": "dino", "resolved": resolved},
        "benchmarks": [{"calibration": calibration}],
        "data": {"samples": 9},
        "steps": steps,
    }


def external(name):
    """The record of another library's model."""
    init = {"requested": name, "resolved": "hf"}
    return {"config": {}, "image_init": init, "model": {}, "benchmarks": []}


def inits(used):
    return {"inits": {"dino": used}}


def test_what_training_pairs_share_with_the_benchmarks_is_counted():
    made = run("dino")
    made["nouns"] = ["dog", "plant"]
    made["benchmarks"] = [
        {"set": "voc", "measure": "segmentation", "names": ["Potted plant", "dog", "cat"]},
        {"set": "birds", "measure": "segmentation", "names": ["bird"]},
    ]
    made["data"]["shared_images"] = {"voc": 3, "birds": 0}
    found = supervision(made)
    assert found["classes_among_nouns"] == "2 of 3 of voc"
    assert found["shared_images"] == "3 of voc"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (run("dino"), "table pairs.csv, none, none, 9, none"),
        (run("supervised"), "table pairs.csv, ImageNet, none, 9, none"),
        (run("mae_in1k_ft_in21k"), "table pairs.csv, ImageNet-21k, none, 9, none"),
        (run("mae_in1k", image=inits("random")), "table pairs.csv, none, none, 9, none"),
        (
            run("dino", image=inits("demo_supervised.safetensors")),
            "table pairs.csv, classes of scenes, none, 9, none",
        ),
        (
            run("dino", image=inits("a.pt")),
            "unknown and table pairs.csv, unknown, unknown, 9, none",
        ),
        (
            run("dino", image={"weights": "a"}),
            "unknown and table pairs.csv, unknown, unknown, 9, none",
        ),
        (
            run("dino", image={"family": "a"}),
            "unknown and table pairs.csv, unknown, unknown, 9, none",
        ),
        (run("dino", steps=0), "none, none, none, none"),
        (
            run("clip", data=MIXTURE),
            "OpenAI's pairs and table pairs.csv and scenes, none, none, 9, none",
        ),
        (
            run("x", start="classifier:net.in21k"),
            "table pairs.csv, ImageNet-21k and ImageNet-1k, none, 9, none",
        ),
        (
            run("dino", calibration=CHOSEN),
            "table pairs.csv, none, none, 9, scenes tune, 307 images",
        ),
        (
            run("dino", start="RUN", evaluation={"threshold": 0.3}),
            "unknown and table pairs.csv, unknown, unknown, 9, unknown",
        ),
        (external("open_clip:ViT-B-32:openai"), "OpenAI's pairs, none, none, none"),
        (external("open_clip:hf-hub:laion/CLIP-laion2B"), "LAION-2B, none, none, none"),
        (external("open_clip:ViT-B-32:openai.pt"), "unknown, unknown, unknown, none"),
        (external("hf:./openai/clip"), "unknown, unknown, unknown, none"),
        (external("timm:eva.mim_in22k"), "unknown, unknown, unknown, none"),
        ({"predictions": {}}, "unknown, unknown, unknown, unknown"),
    ],
)
def test_supervision_follows_from_a_record(record, expected):
    found = supervision(record)
    shared = [
        found.pop(key) for key in ("classes_among_nouns", "shared_images") if "pairs" in found
    ]
    assert shared in ([], ["none", "unknown"])
    assert ", ".join(map(str, found.values())) == expected
