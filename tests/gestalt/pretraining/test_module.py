"""Both ways of pretraining under a real trainer: which weights a step changes.  V crops, B
batch.
"""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.losses.distillation import ProjectionHead
from gestalt.pretraining import module as room
from gestalt.pretraining.keys import RECIPES
from gestalt.pretraining.module import Classification, PatchDistillation, summary_of
from gestalt.training.finite import NonFiniteLoss
from gestalt.training.schedule import half_cosine
from tests.gestalt.at_step import QUIET

pytestmark = [
    # a few random pictures need none
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    # the teacher is, on purpose
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training.*"),
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval.*"),
]
BATCH, STEPS = 4, 4
RECIPE = replace(RECIPES["dino"], steps=STEPS, warmup=0.0, learning_rate=1e-3)


@pytest.fixture(autouse=True)
def frozen_for_two_steps(monkeypatch):
    monkeypatch.setattr(room, "FROZEN_PROTOTYPES", 0.5)


def tower(backbone="vit_tiny_patch16_224", **changes):
    torch.manual_seed(0)
    sizes = {"patch_size": 8, "width": 32, "depth": 2, "heads": 2, "eval_size": 32}
    return build_image_tower(Image(backbone, init="random", **{**sizes, **changes}))


def batches(count=STEPS):
    generator = torch.Generator().manual_seed(0)
    numbers = {
        "label": torch.arange(BATCH) % 3,
        "sample_id": torch.arange(BATCH),
        "epoch": torch.zeros(BATCH, dtype=torch.int64),
    }
    # the second is mirrored
    places = torch.tensor([[[0.0, 0.0, 0.75, 1.0]], [[1.0, 0.0, 0.25, 1.0]]]).expand(2, BATCH, 4)
    crops = [
        torch.randint(0, 256, (2, BATCH, 3, 32, 32), dtype=torch.uint8, generator=generator)
        for _ in range(count)
    ]
    return [{"crops": two, "places": places, **numbers} for two in crops]


class Watch(Callback):
    """The weights before the first step and after each, and the losses."""

    def __init__(self):
        self.states = []
        self.losses = []

    def on_train_start(self, trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.state_dict()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.states.append(copy.deepcopy(pl_module.state_dict()))
        self.losses.append(outputs["loss"].item())


def fit(module, data=None):
    watch = Watch()
    trainer = Trainer(**QUIET, max_steps=STEPS, max_epochs=-1, callbacks=[watch])
    trainer.fit(module, DataLoader(data or batches(), batch_size=None))
    return watch


def same(one, other, name):
    return torch.equal(one[name], other[name])


def dino():
    return PatchDistillation(tower(), RECIPE)


def supervised():
    made = tower()
    return Classification(made, RECIPE, classes=3)


def test_every_part_of_the_student_learns_and_the_prototypes_only_after_the_first_steps():
    states = fit(dino()).states
    prototypes = "student.head.prototypes.weight"
    assert [same(one, other, prototypes) for one, other in pairwise(states)] == [
        True,
        True,
        False,
        False,
    ]
    trained = [
        name
        for name in states[0]
        if name.startswith("student") and not name.endswith((".mean", ".std"))
    ]
    assert "student.mask_token.token" in trained
    assert [name for name in trained if same(states[0], states[1], name)] == [prototypes]


def test_the_teacher_is_the_students_moving_average_and_its_tower_is_the_result():
    module = dino()
    states = fit(module).states
    assert all(
        parameter.grad is None and not parameter.requires_grad
        for parameter in module.teacher.parameters()
    )
    for step in range(STEPS):
        momentum = half_cosine(step, start=0.95, end=1.0, total=STEPS)
        for name in (
            name
            for name in states[0]
            if name.startswith("teacher.") and not name.endswith((".mean", ".std"))
        ):
            student = states[step + 1][name.replace("teacher", "student", 1)]
            torch.testing.assert_close(
                states[step + 1][name], momentum * states[step][name] + (1 - momentum) * student
            )
    assert module.tower is module.teacher.tower
    assert not module.train().teacher.training


def test_the_teacher_sees_every_patch_and_the_student_another_half_of_each_crop():
    module, seen = dino(), []
    for name, network in (("student", module.student), ("teacher", module.teacher)):
        original = network.forward

        def watch(crops, mask=None, *, name=name, original=original):
            seen.append((name, mask))
            return original(crops, mask)

        network.forward = watch
    fit(module)
    masks = dict(seen)
    assert masks["teacher"] is None
    assert masks["student"].shape == (2, BATCH, 16)
    assert (masks["student"].sum(dim=-1) == 8).all()
    assert not torch.equal(masks["student"][0], masks["student"][1])


@pytest.mark.parametrize("build", [dino, supervised])
def test_training_is_reproducible(build):
    first, second = (fit(build()).states[-1] for _ in range(2))
    assert all(same(first, second, name) for name in first)


def test_classification_learns_labels():
    torch.manual_seed(0)
    module = supervised()
    losses = fit(module, batches(1) * STEPS).losses
    assert losses[-1] < losses[0]


def test_the_weight_decay_follows_its_cosine_for_matrices_only():
    decays, module = [], dino()
    original = module.optimizer_step

    def remember(*args, **kwargs):
        decays.append(
            {
                group["name"]: group["weight_decay"]
                for group in module.trainer.optimizers[0].param_groups
            }
        )
        original(*args, **kwargs)

    module.optimizer_step = remember
    fit(module)
    expected = [half_cosine(step, start=0.04, end=0.1, total=STEPS) for step in range(STEPS)]
    assert [step["heads.decay"] for step in decays] == pytest.approx(expected, abs=1e-6)
    assert {step["heads.no_decay"] for step in decays} == {0}


def test_each_parameters_gradient_is_clipped_by_itself(monkeypatch):
    monkeypatch.setattr(room, "MAX_GRADIENT", 1e-3)
    norms, module = [], dino()
    original = module.on_before_optimizer_step

    def remember(optimizer):
        original(optimizer)
        norms.extend(
            parameter.grad.norm().item()
            for parameter in module.student.parameters()
            if parameter.grad is not None
        )

    module.on_before_optimizer_step = remember
    fit(module)
    assert max(norms) <= 1e-3 * 1.001
    assert sum(norm > 0.9e-3 for norm in norms) > 10  # not the norm of all together


def test_a_loss_that_is_not_a_number_stops_with_the_step_before_a_parameter_changes():
    module = dino()
    module.teacher.head.prototypes.weight.data.fill_(float("nan"))
    before = copy.deepcopy(module.student.state_dict())
    with pytest.raises(
        NonFiniteLoss,
        match=r"gradient norm is nan at step 0 of pretraining.*lower pretraining\.learning_rate",
    ):
        fit(module)
    assert all(same(before, module.student.state_dict(), name) for name in before)


def test_the_heads_outputs_are_cosines_and_ignore_the_prototypes_lengths():
    torch.manual_seed(0)
    head = ProjectionHead(8, prototypes=32)
    x = torch.randn(5, 8)
    before = head(x)
    head.prototypes.weight.data *= torch.linspace(0.1, 9, 32).unsqueeze(1)
    torch.testing.assert_close(head(x), before)
    assert before.abs().max() <= 1 + 1e-6


def test_a_tower_without_a_class_token_is_summed_up_by_the_mean_of_its_parts():
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    tokens = tower("vit_base_patch16_siglip_224", patch_size=16)(images)
    torch.testing.assert_close(summary_of(tokens), tokens.parts.mean(dim=1))
    tokens = tower()(images)
    assert summary_of(tokens) is tokens.summary
