"""Self-distillation's loss: its reference values, and updates of the centre.  V crops, B batch, K prototypes."""

import math

import pytest
import torch
from torch import Tensor

from gestalt.distillation.image_loss import DistillationLoss, cross_entropy, entropies
from gestalt.training.schedule import linear


def outputs(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss(prototypes: int = 8, *, student_temperature: float = 0.1, centre_momentum: float = 0.9) -> DistillationLoss:
    return DistillationLoss(prototypes, student_temperature=student_temperature, centre_momentum=centre_momentum)


def slow(student: Tensor, teacher: Tensor, *, centre: Tensor, student_temperature: float, temperature: float) -> float:
    """Equation by equation, image by image, without the pairs of one crop with itself."""
    total, pairs = 0.0, 0
    for one in range(len(teacher)):
        for other in range(len(student)):
            if one == other:
                continue
            pairs += 1
            for image in range(teacher.shape[1]):
                target = [math.exp(v) for v in ((teacher[one, image] - centre) / temperature).tolist()]
                logit = (student[other, image] / student_temperature).tolist()
                logs = [value - math.log(sum(math.exp(v) for v in logit)) for value in logit]
                total -= sum(t / sum(target) * log for t, log in zip(target, logs, strict=True)) / teacher.shape[1]
    return total / pairs


@pytest.mark.parametrize(("crops", "images"), [(2, 1), (2, 3), (5, 3)])
def test_the_loss_equals_a_slow_reference(crops, images):
    module = loss()
    module.centre.copy_(outputs(8, seed=3))
    student, teacher, centre = outputs(crops, images, 8, seed=1), outputs(2, images, 8, seed=2), module.centre.clone()
    found = module(student, teacher, temperature=0.5).loss
    expected = slow(student, teacher, centre=centre, student_temperature=0.1, temperature=0.5)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_loss_centre_and_gradient_equal_lightlys_over_its_temperature_schedule():
    """Made once with lightly 1.6.0 on torch 2.13: DINOLoss(8, 0.04, 0.07, 3, 0.1, 0.9) on these very inputs, one epoch a step."""
    generator, module = torch.Generator().manual_seed(0), loss()
    found = []
    for step in range(5):
        teacher, student = torch.randn(2, 4, 8, generator=generator), torch.randn(5, 4, 8, generator=generator)
        temperature = linear(step, start=0.04, end=0.07, steps=3)
        found.append(module(student, teacher, temperature=temperature).loss.item())
    assert found == pytest.approx([13.490683, 13.081918, 14.9797, 17.87545, 16.040964], rel=1e-5)
    centre = [-0.094526, 0.123397, 0.044772, -0.046201, -0.034779, 0.020016, 0.091669, -0.114136]
    assert module.centre.tolist() == pytest.approx(centre, abs=1e-6)
    module(student.requires_grad_(), teacher, temperature=0.07).loss.backward()
    assert torch.linalg.vector_norm(student.grad).item() == pytest.approx(2.526264, rel=1e-5)


def test_no_gradient_flows_into_the_teacher():
    student, teacher = outputs(3, 2, 8, seed=1).requires_grad_(), outputs(2, 2, 8, seed=2).requires_grad_()
    loss()(student, teacher, temperature=0.04).loss.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_a_crop_is_never_compared_with_itself():
    student, target = outputs(2, 3, 8, seed=1), outputs(2, 3, 8, seed=2).softmax(dim=-1)
    student.requires_grad_()
    cross_entropy(student, target * torch.tensor([1.0, 0.0]).view(2, 1, 1)).backward()  # the first crop's target alone
    assert student.grad[0].abs().sum() == 0
    assert student.grad[1].abs().sum() > 0


def test_the_centre_moves_after_the_loss_towards_the_mean_of_the_teachers_outputs():
    module, teacher = loss(centre_momentum=0.75), outputs(2, 3, 8, seed=2)
    first = module(outputs(4, 3, 8), teacher, temperature=0.1)
    torch.testing.assert_close(module.centre, 0.25 * teacher.mean(dim=(0, 1)))
    torch.testing.assert_close(first.loss, loss(centre_momentum=0.0)(outputs(4, 3, 8), teacher, temperature=0.1).loss)
    before = module.centre.clone()
    module(outputs(4, 3, 8), teacher, temperature=0.1)
    torch.testing.assert_close(module.centre, 0.75 * before + 0.25 * teacher.mean(dim=(0, 1)))


def test_an_offset_of_the_teacher_outputs_is_cancelled_by_the_centre():
    one, other, shift = loss(), loss(), outputs(8, seed=5)
    other.centre.copy_(shift)
    student, teacher = outputs(4, 3, 8, seed=1), outputs(2, 3, 8, seed=2)
    torch.testing.assert_close(
        one(student, teacher, temperature=0.1).loss, other(student, teacher + shift, temperature=0.1).loss, rtol=1e-4, atol=1e-5
    )


def test_the_entropies_distinguish_both_kinds_of_collapse():
    nothing = torch.full((2, 3, 8), 1 / 8)  # every prototype alike
    one = torch.eye(8)[torch.zeros(2, 3, dtype=torch.int64)]  # the same prototype for every image
    spread = torch.eye(8)[torch.arange(8).view(2, 4)]  # its own prototype for every image
    assert [value.item() for value in entropies(nothing)] == pytest.approx([math.log(8), math.log(8)])
    assert [value.item() for value in entropies(one)] == pytest.approx([0, 0])
    assert [value.item() for value in entropies(spread)] == pytest.approx([0, math.log(8)])
