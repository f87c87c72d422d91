"""Weights between a start and a run: WiSE-FT, arXiv:2109.01903."""

import re
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gestalt.encoders.weights import WeightsOrigin, weights_hash
from gestalt.models import between
from gestalt.models.opening import open_target
from tests.gestalt.command import run_here
from tests.gestalt.models.test_start import built, images
from tests.gestalt.tiny_model import export, save_run, tiny


@torch.no_grad()
def test_a_share_mixes_all_weights_and_so_the_maps_of_a_frozen_trunk(cwd):
    export(cwd / "begun")
    run, config = built("begun")
    run.image.projection.linear.weight += 1
    run.logit_scale += 1
    folder = save_run(cwd, run, config, image_origin=asdict(run.image_origin))
    run_here(f"export {folder} --to mix --share 0,0.25,1")
    assert "the run: 0.25 of the run, whose" in Path("mix_0.25/README.md").read_text()
    opened = [open_target(f"mix_{share}") for share in (0.0, 0.25, 1.0)]
    first, mixed, last = (one.model for one in opened)
    ends = {"start_sha256": weights_hash(tiny()[0]), "run_sha256": weights_hash(run)}
    assert opened[1].identity["interpolation"] == {"share": 0.25, "start": "begun", **ends}
    assert [weights_hash(first), weights_hash(last)] == [*ends.values()]
    tokens = run.tokens(images())
    for read in (
        lambda model: nn.utils.parameters_to_vector(model.parameters()),
        lambda model: model.locations(tokens),
    ):
        torch.testing.assert_close(read(mixed), 0.75 * read(first) + 0.25 * read(last))


REFUSED = {  # the name of the start, and the bias of it and of the run
    "start=begun has no logit_bias of shape (1,)": ("begun", None, [1.0]),
    "start=classifier:x has no logit_bias of shape (2,)": ("classifier:x", [1.0], [1.0, 2.0]),
    "logit_bias holds integers that differ": ("begun", [1], [2]),
    "start=begun tokenises texts differently": ("begun", [1.0], [2.0]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_ends_that_cannot_be_mixed_are_refused_in_one_line(message, monkeypatch):
    name, *biases = REFUSED[message]
    start, run = models = [deepcopy(tiny()[0]) for _ in biases]
    for model, bias in zip(models, biases, strict=True):
        model.logit_bias = bias and nn.Parameter(torch.tensor(bias), False)
    start.text_tower.max_length = 9
    opens = {"begun": SimpleNamespace(model=start)}
    monkeypatch.setattr(between, "open_start", lambda _, name: opens[name])
    monkeypatch.setattr(between, "build_model", lambda _: start)
    opened = SimpleNamespace(model=run, trained=replace(tiny()[1], start=name))
    for found in (f"start={name} is not what the run began with", message):
        with pytest.raises(ValueError, match=re.escape(found)):
            between.read_ends(opened)
        run.image_tower.origin = WeightsOrigin(name, "", weights_hash(start))
