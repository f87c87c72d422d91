"""Both ways of pretraining under a real trainer: which weights a step changes.  V crops, B batch."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from gestalt.callbacks.reading import NonFiniteLoss
from gestalt.config.loading import load
from gestalt.config.schema import Image
from gestalt.distillation.head import ProjectionHead
from gestalt.encoders.image import build_image_tower
from gestalt.pretraining import pretrainer
from gestalt.pretraining.classification import Classification
from gestalt.pretraining.distillation import SelfDistillation
from gestalt.pretraining.pretrainer import summary_of
from gestalt.tokens import Tokens
from tests.gpu.synchronisations import counted

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # a few random pictures need none
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training.*"),  # the teacher is, on purpose
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval.*"),
]
BATCH, STEPS = 4, 4


def recipe(**changes):
    made = load("clippy_dino_max", scale="tiny").pretraining
    return replace(made, **{"steps": STEPS, "warmup_steps": 0, "frozen_head_steps": 2, "warmup_teacher_steps": 0, **changes})


def tower(backbone="vit_tiny_patch16_224", **changes):
    torch.manual_seed(0)
    image = Image(backbone, init="random", **{"patch_size": 8, "width": 32, "depth": 2, "heads": 2, **changes})
    return build_image_tower(image, size=32)


def batches(count=STEPS, *, local=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def crops(views, size):
        return torch.randint(0, 256, (views, BATCH, 3, size, size), dtype=torch.uint8, generator=generator)

    numbers = {"label": torch.arange(BATCH) % 3, "sample_id": torch.arange(BATCH), "epoch": torch.zeros(BATCH, dtype=torch.int64)}
    places = torch.tensor([[[0.0, 0.0, 0.75, 1.0]], [[1.0, 0.0, 0.25, 1.0]]]).expand(2, BATCH, 4)  # the second is mirrored
    return [{"global_crops": crops(2, 32), "local_crops": crops(local, 16), "global_places": places, **numbers} for _ in range(count)]


class Snapshots(Callback):
    """The weights before the first step and after each."""

    def __init__(self):
        self.states = []

    def on_train_start(self, trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.state_dict()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.states.append(copy.deepcopy(pl_module.state_dict()))


def fit(module, data=None, *, more=()):
    seen = Snapshots()
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=STEPS, max_epochs=-1, logger=False, callbacks=[*more, seen],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data or batches(), batch_size=None))
    return seen.states


def same(one, other, name):
    return torch.equal(one[name], other[name])


def test_only_the_prototypes_are_frozen_for_the_first_steps():
    states = fit(SelfDistillation(tower(), recipe()))
    stays = [same(one, other, "student.head.prototypes.weight") for one, other in pairwise(states)]
    assert stays == [True, True, False, False]
    trained = [name for name in states[0] if name.startswith("student") and not name.endswith(("prototypes.weight", ".mean", ".std"))]
    assert not [name for name in trained if same(states[0], states[1], name)]


def test_the_teacher_is_the_students_moving_average_and_gets_no_gradient():
    module = SelfDistillation(tower(), recipe(momentum=0.9))
    states = fit(module)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in module.teacher.parameters())
    for step in range(STEPS):
        momentum = module.momentum(step)
        for name in (name for name in states[0] if name.startswith("teacher.") and not name.endswith((".mean", ".std"))):
            student = states[step + 1][name.replace("teacher", "student", 1)]
            torch.testing.assert_close(states[step + 1][name], momentum * states[step][name] + (1 - momentum) * student)


def test_teacher_and_student_start_equal_and_the_teachers_tower_is_the_result():
    module = SelfDistillation(tower(), recipe())
    for theirs, ours in zip(module.teacher.parameters(), module.student.parameters(), strict=True):
        assert torch.equal(theirs, ours)
        assert theirs.data_ptr() != ours.data_ptr()
    assert module.trained_tower is module.teacher.tower
    assert not module.train().teacher.training


def test_local_crops_change_the_loss_and_are_optional():
    with_local, without = SelfDistillation(tower(), recipe()), SelfDistillation(tower(), recipe())
    fit(with_local)
    fit(without, batches(local=0))
    assert with_local.last["loss"] != without.last["loss"]


PATCHES = {"summary": "max", "patch_weight": 1.0, "across_weight": 0.5, "mask_share": 0.5, "patch_prototypes": 16}


def on_patches(made, how):
    return SelfDistillation(made, replace(how, **PATCHES, patch_centring="sinkhorn_by_position"))


@pytest.mark.parametrize("local", [0, 2])
@pytest.mark.parametrize("centring", ["centre", "sinkhorn", "sinkhorn_by_position"])
def test_the_loss_is_the_weighted_sum_of_images_and_patches(centring, local):
    module = SelfDistillation(tower(), recipe(**{**PATCHES, "patch_weight": 2.0, "image_weight": 0.25}, patch_centring=centring))
    fit(module, batches(local=local))
    last = module.last
    assert last["loss"] == pytest.approx(0.25 * last["image_loss"] + 2 * last["patch_same"] + 0.5 * last["patch_across"], rel=1e-5)
    assert last["patch_across"] > 0


def test_patch_losses_train_every_part_of_the_student():
    states = fit(on_patches(tower(), recipe(frozen_head_steps=1)))
    trained = [name for name in states[0] if name.startswith("student") and not name.endswith((".mean", ".std"))]
    assert "student.mask_token.token" in trained
    assert [name for name in trained if same(states[0], states[1], name)] == [
        "student.head.prototypes.weight",
        "student.head.patch_prototypes.weight",
    ]
    assert not [name for name in trained if same(states[1], states[2], name)]


def test_without_prototypes_for_patches_images_and_patches_share_them():
    module = SelfDistillation(tower(), recipe(patch_weight=1.0))
    assert module.student.head.patch_prototypes is None
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module.student.head.patches(x), module.student.head(x))


def test_under_the_defaults_nothing_is_added_to_the_state():
    names = {name.partition(".")[0] for name in SelfDistillation(tower(), recipe()).state_dict()}
    assert names == {"student", "teacher", "loss"}
    assert not [name for name in SelfDistillation(tower(), recipe()).state_dict() if "mask" in name or "patch_prototypes" in name]


def test_the_teacher_sees_every_patch_and_the_student_a_share_of_each_global_crop():
    module, seen = on_patches(tower(), recipe()), []
    for name, network in (("student", module.student), ("teacher", module.teacher)):
        original = network.forward

        def watch(crops, local=None, mask=None, *, name=name, original=original):
            seen.append((name, mask))
            return original(crops, local, mask)

        network.forward = watch
    fit(module)
    masks = dict(seen)
    assert masks["teacher"] is None
    assert masks["student"].shape == (2, BATCH, 16)
    assert (masks["student"].sum(dim=-1) == 8).all()
    assert not torch.equal(masks["student"][0], masks["student"][1])


@pytest.mark.parametrize(
    "module",
    [SelfDistillation, on_patches, lambda made, how: Classification(made, how, classes=3)],
    ids=["dino", "patches", "supervised"],
)
def test_training_is_reproducible(module):
    first, second = (fit(module(tower(), recipe()))[-1] for _ in range(2))
    assert all(same(first, second, name) for name in first)


def test_classification_learns_labels_and_saves_the_tower_alone():
    torch.manual_seed(0)
    module = Classification(tower(), recipe(learning_rate=3e-3), classes=3)
    fit(module, batches(1) * STEPS)
    assert module.curve[-1][1] < module.curve[0][1]
    assert module.trained_tower is module.tower


def test_the_weight_decay_follows_its_cosine_for_matrices_only():
    decays = []
    module = SelfDistillation(tower(), recipe(weight_decay=0.04, final_weight_decay=0.4))
    original = module.after_step

    def remember(step):
        groups = module.optimizers().param_groups
        decays.append({group["name"]: group["weight_decay"] for group in groups})
        original(step)

    module.after_step = remember
    fit(module)
    assert [step["heads.decay"] for step in decays] == pytest.approx([0.04, 0.0927208, 0.22, 0.3472792], abs=1e-6)
    assert {step["heads.no_decay"] for step in decays} == {0}


def test_each_parameters_gradient_is_clipped_by_itself():
    norms = []
    module = SelfDistillation(tower(), recipe(gradient_clip=1e-3, frozen_head_steps=0))
    original = module.on_before_optimizer_step

    def remember(optimizer):
        original(optimizer)
        norms.extend(parameter.grad.norm().item() for parameter in module.student.parameters() if parameter.grad is not None)

    module.on_before_optimizer_step = remember
    fit(module)
    assert max(norms) <= 1e-3 * 1.001
    assert sum(norm > 0.9e-3 for norm in norms) > 10  # not the norm of all together


def test_the_curve_keeps_first_and_last_step():
    module = SelfDistillation(tower(), recipe())
    fit(module)
    assert [step for step, _ in module.curve] == [0, 1, 2, 3]
    assert {"loss", "teacher_entropy", "teacher_entropy_of_mean", "centre_norm"} == module.last.keys()


def test_a_loss_that_is_not_a_number_stops_with_the_step():
    module = SelfDistillation(tower(), recipe())
    module.teacher.head.prototypes.weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 0 of pretraining"):
        fit(module)


class Waits(Callback):
    """Counts, in each step, the operations that wait for a device."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.counting = counted(torch.device("cpu"))
        self.steps.append(self.counting.__enter__())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.counting.__exit__(None, None, None)


@pytest.mark.parametrize(
    "module",
    [SelfDistillation, on_patches, lambda made, how: Classification(made, how, classes=3)],
    ids=["dino", "patches", "supervised"],
)
def test_only_a_step_that_is_read_waits_for_the_device(module, monkeypatch):
    monkeypatch.setattr(pretrainer, "CURVE_POINTS", 1)  # the first and the last step
    waits = Waits()
    fit(module(tower(), recipe()), more=[waits])
    assert [bool(places) for places in waits.steps] == [True, False, False, True], waits.steps


class LosesItsSecondLoss(SelfDistillation):
    """Notes a loss that is NaN at step 1, and saves after step 2 if asked."""

    saves = False

    def log_step(self, loss, **measured):
        self.noted = [*getattr(self, "noted", []), self.global_step]
        super().log_step(loss * float("nan") if self.global_step == 1 else loss, **measured)

    def after_step(self, step):
        super().after_step(step)
        if self.saves and step == 2:
            self.on_save_checkpoint({})


@pytest.mark.parametrize(("saves", "read_at"), [(False, 3), (True, 2)])
def test_a_non_finite_loss_is_reported_at_the_next_read_step_and_before_a_checkpoint(saves, read_at, monkeypatch):
    monkeypatch.setattr(pretrainer, "CURVE_POINTS", 1)
    module = LosesItsSecondLoss(tower(), recipe())
    module.saves = saves
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 1 of pretraining"):
        fit(module)
    assert module.noted == list(range(read_at + 1))


def test_the_heads_outputs_are_cosines_and_ignore_the_prototypes_lengths():
    torch.manual_seed(0)
    head = ProjectionHead(8, hidden=16, bottleneck=4, prototypes=32)
    x = torch.randn(5, 8)
    before = head(x)
    head.prototypes.weight.data *= torch.linspace(0.1, 9, 32).unsqueeze(1)
    torch.testing.assert_close(head(x), before)
    assert before.abs().max() <= 1 + 1e-6


def test_a_tower_without_a_class_token_is_summed_up_by_the_mean_of_its_parts():
    tokens = tower("vit_base_patch16_siglip_224", patch_size=16)(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    torch.testing.assert_close(summary_of(tokens), tokens.parts.mean(dim=1))
    parts = torch.zeros(2, 4, 8)
    summary = torch.ones(2, 8)
    assert summary_of(Tokens(summary=summary, parts=parts, mask=torch.ones(2, 4, dtype=torch.bool), grid=(2, 2))) is summary
