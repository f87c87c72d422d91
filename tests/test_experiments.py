"""Every shipped experiment loads at every scale or is refused with a reason; from inits it builds,
and takes one step.
"""

import itertools
from dataclasses import replace

import pytest
import torch

from gestalt.config.folders import EXPERIMENTS
from gestalt.config.loading import load
from gestalt.support.typed import ConfigError, read_keys
from tests.gestalt.at_step import alone, build_module
from tests.gestalt.tiny_config import tiny_config

NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
SCALES = sorted(path.stem for path in (EXPERIMENTS / "scales").glob("*.yaml"))
FROM_INITS = [name for name in NAMES if "start" not in read_keys(EXPERIMENTS / f"{name}.yaml")]
ROOTS = ["data.root=DIR", "benchmark_root=DIR"]
NOT_THERE = {  # (experiment, scale) pairs that stop, and the reason that the line gives
    (name, scale): reason
    for scale in ("photos", "photos_448")
    for name, reason in {
        **{
            name: "random, supervised"
            for name in FROM_INITS
            if load(name, scale="tiny").image.init == "dino"
        },
        "clip_baseline": "class token",
        "gestalt_self_distillation": "only of a vit can patches be hidden",
    }.items()
} | {
    ("classifier_nouns_image", scale): "a cnn cannot drop tokens"
    for scale in ("tiny", "demo", "cc12m")
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


@pytest.mark.parametrize("name", FROM_INITS)
def test_one_step_gives_every_trainable_parameter_a_gradient(name):
    from gestalt.models.start import build_model
    from gestalt.runs.source import build_source
    from gestalt.runs.training import build_data

    config = tiny_config("loss.terms={}", "data.workers=0", name=name)
    model = build_model(config)
    module = alone(build_module(config, model, total_steps=1))
    loader = build_data(config, build_source(config), validation=None).train_dataloader()
    module.training_step(next(iter(loader)), 0).backward()
    assert not [
        key
        for key, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]


def test_the_papers_image_towers_have_the_papers_size():
    from gestalt.encoders.towers import build_image_tower

    images = [load(name, scale="cc12m", overrides=ROOTS).image for name in FROM_INITS]
    for image in {(image.backbone, image.family): image for image in images}.values():
        with torch.device("meta"):
            tower = build_image_tower(replace(image, init="random", inits={}))
        assert sum(parameter.numel() for parameter in tower.parameters()) == 85_798_656
        assert tower.width == 768
        assert tower.grid(448, 448) == (28, 28)
