"""Every shipped experiment loads at every scale or is refused with a reason; from inits it builds,
and takes one step.
"""

import itertools
from dataclasses import replace

import pytest
import torch

from gestalt.config.loading import EXPERIMENTS, load
from gestalt.config.schema import ConfigError

NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
SCALES = sorted(path.stem for path in (EXPERIMENTS / "scales").glob("*.yaml"))
FROM_INITS = [name for name in NAMES if load(name, scale="tiny").start is None]
ROOTS = ["data.root=DIR", "benchmark_root=DIR"]
NOT_THERE = {  # (experiment, scale) pairs that stop, and the reason that the line gives
    **{
        (name, "photos"): "random, supervised"
        for name in ("clippy_dino_max", "clippy_dino_avg", "clippy_dino_cls")
    },
    ("clip_baseline", "photos"): "class token",
    ("gestalt_self_distillation", "photos"): "a cnn has no patches to hide",
}


def test_every_pair_of_experiment_and_scale_loads_or_is_refused_with_a_reason():
    for name, scale in itertools.product(NAMES, SCALES):
        try:
            load(name, scale=scale, overrides=ROOTS)
            reason = ""
        except ConfigError as error:
            reason = str(error)
        expected = NOT_THERE.get((name, scale), "")
        assert expected in reason, (name, scale)
        assert bool(reason) == bool(expected), (name, scale, reason)


def first_batch(config, source):
    pairs = [source.pair(index, 0) for index in range(4)]
    return {
        "image": torch.stack([image for image, _ in pairs]),
        "text": [text for _, text in pairs],
        "sample_id": torch.arange(4),
        "epoch": torch.zeros(4, dtype=torch.int64),
    }


@pytest.mark.parametrize("name", FROM_INITS)
def test_one_step_gives_every_trainable_parameter_a_gradient(name):
    from gestalt.building.model import build_model
    from gestalt.building.source import build_source
    from gestalt.losses.contrastive import contrastive_loss, text_ids
    from gestalt.subsampling import keep_indices, kept_tokens

    config = load(name, scale="tiny")
    model = build_model(config)
    batch = first_batch(config, build_source(config))
    height, width = model.image_tower.grid(*batch["image"].shape[-2:])
    total = height * width
    kept = kept_tokens(total, config.image.keep_tokens)
    keep = (
        keep_indices(batch["sample_id"], batch["epoch"], seed=0, total=total, kept=kept)
        if config.image.subsampling
        else None
    )
    made = model(batch["image"], batch["text"], keep=keep)
    assert made.parts == (kept if config.image.subsampling else total)
    terms = contrastive_loss(
        made.image,
        made.text,
        logit_scale=model.logit_scale,
        text_id=text_ids(batch["text"]),
        directions="sum",
        equal_texts="negatives",
    )
    terms.loss.backward()
    without = [
        key
        for key, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert not without


def test_the_papers_image_towers_have_the_papers_size():
    from gestalt.encoders.image import build_image_tower

    images = [load(name, scale="cc12m", overrides=ROOTS).image for name in FROM_INITS]
    for image in {(image.backbone, image.family): image for image in images}.values():
        with torch.device("meta"):
            tower = build_image_tower(replace(image, init="random", inits={}), size=image.eval_size)
        assert sum(parameter.numel() for parameter in tower.parameters()) == 85_798_656
        assert tower.width == 768
        assert tower.grid(448, 448) == (28, 28)
