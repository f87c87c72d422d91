"""Parameter groups over small models and real towers, optimisers, warm-up and cosine."""

import math
import re
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

from gestalt.encoders.keys import Image, Text
from gestalt.encoders.towers import build_image_tower, build_text_tower
from gestalt.support.typed import ConfigError
from gestalt.training.keys import Optimizer, check_optimizer, timm_optimizers
from gestalt.training.schedule import (
    make_optimizer,
    parameter_groups,
    rate_factor,
)


class Blocks(nn.Module):
    """A tower in miniature: class token, embedding, n numbered blocks, final norm."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.embed = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(count))
        self.norm = nn.LayerNorm(4)


class Model(nn.Module):
    """Two towers, a projection on each side, the logit scale."""

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image, self.text = (
            nn.ModuleDict({"tower": tower, "projection": nn.Linear(4, 4, bias=False)})
            for tower in (image, text)
        )
        self.logit_scale = nn.Parameter(torch.tensor(1.0))


def small() -> Model:
    return Model(Blocks(3), Blocks(2))


def vit() -> Model:
    image = build_image_tower(
        Image("vit_tiny_patch16_224", init="random", width=12, depth=2, heads=2, eval_size=32)
    )
    return Model(image, clip_text())


def cnn() -> Model:
    return Model(
        build_image_tower(Image("resnet18", "cnn", init="random", eval_size=64)), clip_text()
    )


def clip_text() -> nn.Module:
    return build_text_tower(
        Text("open_clip", init="random", layers=2, width=8, heads=2, max_length=16)
    )


def group_of(model: nn.Module, name: str, **rates: float) -> dict[str, Any]:
    """The one group that holds the parameter of that name."""
    parameter = model.get_parameter(name)
    rates = {"learning_rate": 1.0, "weight_decay": 0.2, **rates}
    found = [
        group
        for group in parameter_groups(model, Optimizer(**rates))
        if any(member is parameter for member in group["params"])
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("make", [small, vit, cnn])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_every_trainable_parameter_is_in_exactly_one_group(make, layer_decay):
    model = make()
    first = next(iter(model.text["tower"].parameters()))
    first.requires_grad_(False)
    groups = parameter_groups(model, Optimizer(layer_decay=layer_decay))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(
        id(parameter) for parameter in model.parameters() if parameter.requires_grad
    )
    assert len({group["name"] for group in groups}) == len(groups)


@pytest.mark.parametrize("make", [small, vit, cnn])
def test_only_matrices_decay(make):
    for group in parameter_groups(make(), Optimizer()):
        assert group["weight_decay"] == (0.2 if group["name"].endswith(".decay") else 0.0)
        assert group["weight_decay"] == 0.0 or all(
            parameter.ndim >= 2 for parameter in group["params"]
        )


def test_tokens_positions_and_biases_do_not_decay():
    names = [
        "image.tower.trunk.cls_token",
        "image.tower.trunk.pos_embed",
        "text.tower.model.positional_embedding",
    ]
    for name in (*names, "image.tower.trunk.norm.bias"):
        assert group_of(vit(), name)["weight_decay"] == 0.0


def test_rates_of_towers_and_names_apply_to_them_alone():
    rates = {"learning_rate": 0.5, "image_rate": 0.1, "text_rate": 2.0}
    assert group_of(small(), "image.tower.embed.weight", **rates)["lr"] == pytest.approx(0.05)
    assert group_of(small(), "text.tower.embed.weight", **rates)["lr"] == pytest.approx(1.0)
    for name in ("image.projection.weight", "text.projection.weight", "logit_scale"):
        assert group_of(small(), name, **rates)["lr"] == 0.5
    model = small()
    model.image["projection"].names = nn.Parameter(torch.zeros(4, 4))
    rates["names_rate"] = 3.0
    assert group_of(model, "image.projection.names", **rates)["lr"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("image.tower.embed.weight", 4),
        ("image.tower.blocks.0.weight", 3),
        ("image.tower.norm.weight", 0),
        ("text.tower.blocks.1.weight", 1),
        ("logit_scale", 0),
    ],
)
def test_rates_shrink_a_layer_at_a_time(name, power):
    group = group_of(small(), name, layer_decay=0.5, learning_rate=2.0)
    assert group["initial_scale"] == pytest.approx(0.5**power)
    assert group["lr"] == pytest.approx(2 * 0.5**power)


@pytest.mark.parametrize(
    ("make", "name", "power"),
    [
        (vit, "image.tower.trunk.pos_embed", 3),
        (vit, "image.tower.trunk.blocks.1.attn.qkv.weight", 1),
        (vit, "text.tower.model.transformer.resblocks.0.ln_1.weight", 2),
        (cnn, "image.tower.trunk.conv1.weight", 5),
        (cnn, "image.tower.trunk.layer4.1.conv2.weight", 1),
    ],
)
def test_blocks_of_real_towers_are_found(make, name, power):
    assert group_of(make(), name, layer_decay=0.5)["initial_scale"] == pytest.approx(0.5**power)


@pytest.mark.parametrize("name", ["image", "text"])
def test_refuses_layer_decay_without_blocks(name):
    model = Model(**{"image": Blocks(2), "text": Blocks(2), name: nn.Linear(4, 4)})
    with pytest.raises(ValueError, match=f"the {name} tower has no numbered blocks"):
        parameter_groups(model, Optimizer(layer_decay=0.5))


def test_refuses_a_model_without_anything_to_train():
    with pytest.raises(ValueError, match="nothing to train"):
        parameter_groups(small().requires_grad_(False), Optimizer())


@pytest.mark.parametrize("name", ["adamw", "lamb", "lambw", "lion", "adafactorbv", "muon"])
def test_optimisers_take_rate_and_decay_from_the_groups(name):
    model = small()
    keys = Optimizer(name, learning_rate=0.01, image_rate=0.5)
    optimizer = make_optimizer(model, nn.ModuleDict(), keys=keys)
    assert optimizer.defaults.get("max_grad_norm") is None  # clipping is the trainer's task
    before = {key: value.clone() for key, value in model.named_parameters()}
    sum(parameter.square().sum() for parameter in model.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    rates = [group["lr"] for group in parameter_groups(model, keys)]
    assert [group["lr"] for group in optimizer.param_groups] == rates
    assert {group.get("betas", keys.betas) for group in optimizer.param_groups} == {(0.9, 0.98)}
    assert not torch.equal(
        before["image.tower.embed.weight"], model.get_parameter("image.tower.embed.weight")
    )


@pytest.mark.parametrize(
    ("keys", "eps"),
    [
        ({}, 1e-6),
        ({"eps": 1e-8}, 1e-8),
        ({"name": "adafactor"}, 1e-30),
        ({"name": "adafactor", "eps": 1e-6}, 1e-6),  # as in a configuration that 0.3.0 saved
        ({"name": "laprop"}, 1e-15),
        ({"name": "lamb"}, 1e-6),
        ({"name": "sgdp"}, 1e-8),
        ({"name": "lion", "eps": 1e-6}, None),
    ],
)
def test_an_optimiser_has_its_own_eps_where_none_is_given_and_momentum_is_09(keys, eps):
    groups = make_optimizer(small(), nn.ModuleDict(), keys=Optimizer(**keys)).param_groups
    assert {group.get("eps") for group in groups} == {eps}
    assert {group.get("momentum", 0.9) for group in groups} == {0.9}


def decouples(name: str) -> bool:
    """Return True if weight decay changes no state of the optimiser and shrinks each weight by the
    same share.
    """
    start = torch.linspace(0.5, 1, 16).reshape(4, 4)
    found = []
    for decay in (0.2, 0.4):
        model = Model(Blocks(1), Blocks(1))
        weight = model.get_parameter("image.tower.blocks.0.weight")
        weight.data = start.clone()
        keys = Optimizer(name, weight_decay=decay)
        optimizer = make_optimizer(model, nn.ModuleDict(), keys=keys)
        steps = []
        for _ in range(2):
            weight.grad = torch.linspace(-1, 2, 16).reshape(4, 4)
            optimizer.step()
            steps.append(weight.detach().clone())
        means = [
            one for one in optimizer.state[weight].values() if torch.is_tensor(one) and one.dim()
        ]
        found.append((steps[0], means))
    (plain, before), (decayed, after) = found
    share = (plain - decayed) / start
    same = all(map(torch.equal, before, after))
    return same and bool(share.max() - share.min() <= 0.02 * share.mean())


def test_decay_is_called_decoupled_of_the_optimisers_that_decouple_it():
    (item,) = (one for one in fields(Optimizer) if one.name == "weight_decay")
    coupled = {*re.findall(r"`(\w+)`", item.metadata["key"].meaning)}
    coupled |= {"lars", "larc", "nlars", "nlarc"}
    others = {name for name in timm_optimizers() if "kron" not in name}  # it takes half a minute
    assert {name for name in others if not decouples(name)} == coupled


def test_muon_is_for_the_matrices_of_blocks():
    model = vit()
    groups = parameter_groups(model, Optimizer("nadamuon"))
    free = {id(one) for group in groups if "use_fallback" not in group for one in group["params"]}
    names = [name for name, one in model.named_parameters() if id(one) in free]
    assert len(names) == 2 * 2 * 4  # of a block: two of attention, two of the MLP
    assert all("blocks." in name and name.endswith("weight") for name in names)
    with pytest.raises(ValueError, match="muon: no tower has numbered blocks"):
        make_optimizer(nn.Linear(4, 4), nn.ModuleDict(), keys=Optimizer("muon"))


@pytest.mark.parametrize(
    ("name", "cooldown", "factors"),
    [
        ("constant", None, [0.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("constant_cooldown", 8, [0.25, 0.75, 1.0, 1.0, 0.55, 0.1, 0.1]),
        ("cosine", None, [0.25, 0.75, 1.0, 0.55, 0.1 + 0.9 * math.sin(math.pi / 8) ** 2, 0.1, 0.1]),
    ],
)
def test_a_schedule_rises_stays_at_the_peak_and_falls_on_a_line_or_a_cosine(
    name, cooldown, factors
):
    keys = Optimizer(schedule=name, cooldown_steps=cooldown, warmup_steps=4, final_rate=0.1)
    found = [rate_factor(step, keys=keys, total=20) for step in (0, 2, 3, 12, 16, 20, 99)]
    assert found == pytest.approx(factors)
    check_optimizer(keys)


def test_refuses_a_cooldown_without_its_schedule_or_without_room():
    keys = Optimizer(cooldown_steps=17, warmup_steps=4)
    with pytest.raises(ConfigError, match="goes with optimizer"):
        check_optimizer(keys)
    with pytest.raises(ValueError, match="choose at most 16"):
        rate_factor(0, keys=keys, total=20)


@pytest.mark.parametrize(("warmup", "total"), [(11, 10), (-1, 10), (0, 0)])
def test_refuses_an_impossible_schedule(warmup, total):
    with pytest.raises(ValueError, match=r"optimizer\.warmup_steps"):
        rate_factor(0, keys=Optimizer(warmup_steps=warmup), total=total)


def test_a_trainer_with_another_number_of_steps_stretches_the_schedule():
    keys = Optimizer(warmup_steps=3)
    whole = [rate_factor(step, keys=keys, total=8) for step in range(9)]
    halved = [rate_factor(step, keys=keys, total=8, planned=4) for step in range(5)]
    assert halved == whole[::2]
    assert rate_factor(8, keys=keys, total=8, planned=16) == whole[4]


def test_a_run_that_is_all_warm_up_ends_at_the_final_rate():
    keys = Optimizer(warmup_steps=4, final_rate=0.1)
    assert [rate_factor(step, keys=keys, total=4) for step in (3, 4, 9)] == [1.0, 0.1, 0.1]
