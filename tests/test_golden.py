"""Twenty CPU steps of a tiny experiment against the numbers kept in tests/golden; ``pytest FILE
--rewrite-golden`` rewrites them.
"""

import itertools
import json
from pathlib import Path

import pytest
import torch

from gestalt.config.loading import load
from tests.gestalt.at_step import alone, build_module

GOLDEN = Path(__file__).with_name("golden")


def losses(name):
    from gestalt.models.start import build_model
    from gestalt.runs.source import build_source
    from gestalt.runs.training import build_data

    config = load(name, scale="tiny")
    source = build_source(config)
    module = alone(build_module(config, build_model(config), total_steps=20))
    optimizer = module.configure_optimizers()
    loader = build_data(config, source, validation=None).train_dataloader()
    history = []
    for batch in itertools.chain.from_iterable(loader for _ in range(5)):
        loss = module.training_step(batch, 0)
        optimizer["optimizer"].zero_grad()
        loss.backward()
        optimizer["optimizer"].step()
        optimizer["lr_scheduler"]["scheduler"].step()
        module.model.clamp_logit_scale()
        history.append(loss.item())
    return history


@pytest.mark.parametrize("name", ["clippy_dino_max", "clip_baseline"])
def test_twenty_steps_give_the_golden_losses(name, request):
    torch.set_num_threads(1)
    path = GOLDEN / f"{name}_tiny.json"
    found = losses(name)
    if request.config.getoption("--rewrite-golden"):
        path.write_text(json.dumps([round(loss, 6) for loss in found]) + "\n")
    assert found == pytest.approx(json.loads(path.read_text()), rel=1e-3)
    assert found[-1] < found[0]
