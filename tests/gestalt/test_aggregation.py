import math

import pytest
import torch
from torch import Tensor, nn

from gestalt.aggregation import (
    Aggregation,
    GeneralisedMean,
    LogSumExp,
    build_aggregation,
    mean_of_largest,
)
from gestalt.tables import AGGREGATIONS
from gestalt.tokens import Tokens

over_the_table = pytest.mark.laws(AGGREGATIONS)
WIDTH = 4


def tokens(mask: tuple[bool, ...] = (True,) * 5, *, scale: float = 1.0) -> Tokens:
    generator = torch.Generator().manual_seed(0)
    parts = scale * torch.randn(3, len(mask), WIDTH, generator=generator)
    summary = scale * torch.randn(3, WIDTH, generator=generator)
    return Tokens(summary, parts, torch.tensor(mask).expand(3, -1), None)


def stirred(name: str) -> Aggregation:
    """An aggregation whose parameters have left their start: at zero, attention would be the
    mean.
    """
    aggregate = build_aggregation(name, WIDTH)
    if isinstance(aggregate, nn.Module):
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in aggregate.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return aggregate


@over_the_table
def test_the_order_of_parts_does_not_matter(name):
    aggregate, ordered = stirred(name), tokens((True, True, False, True, True))
    order = torch.tensor([3, 2, 0, 4, 1])
    shuffled = ordered._replace(parts=ordered.parts[:, order], mask=ordered.mask[:, order])
    torch.testing.assert_close(aggregate(ordered), aggregate(shuffled))


@over_the_table
@pytest.mark.parametrize("spoil", [1e4, -1e4, math.nan, math.inf])
def test_never_sees_padding(name, spoil):
    aggregate, padded = stirred(name), tokens((True, True, False))
    spoiled = padded._replace(parts=padded.parts.clone().index_fill_(1, torch.tensor([2]), spoil))
    cut = padded._replace(parts=padded.parts[:, :2], mask=padded.mask[:, :2])
    torch.testing.assert_close(aggregate(spoiled), aggregate(cut))


@over_the_table
def test_a_gradient_flows_to_every_parameter(name):
    aggregate = build_aggregation(name, WIDTH)
    if isinstance(aggregate, nn.Module):
        torch.autograd.backward(aggregate(tokens()).square().sum())
        for parameter in aggregate.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0


@over_the_table
def test_the_gradient_is_the_derivative(name):
    aggregate, given = stirred(name), tokens((True, True, True, False))
    assert given.summary is not None
    if isinstance(aggregate, nn.Module):
        aggregate.double()

    def pooled(summary: Tensor, parts: Tensor) -> Tensor:
        return aggregate(given._replace(summary=summary, parts=parts))

    assert torch.autograd.gradcheck(
        pooled, (given.summary.double().requires_grad_(), given.parts.double().requires_grad_())
    )


@over_the_table
@pytest.mark.parametrize("alone", [False, True])
def test_lies_between_the_smallest_and_the_largest_token(name, alone):
    given = tokens(scale=10.0)
    if alone:  # so that the pool of one part is that part
        part = given.parts[:, :1]
        given = given._replace(summary=part[:, 0], parts=part, mask=given.mask[:, :1])
    assert given.summary is not None
    everything = torch.cat((given.parts, given.summary.unsqueeze(1)), dim=1)
    pooled = stirred(name)(given)
    if AGGREGATIONS.row(name).beside:
        assert pooled[:, :WIDTH].equal(given.summary)
        pooled = pooled[:, WIDTH:]
    assert (pooled <= everything.amax(dim=1) + 1e-4).all()
    assert (pooled >= everything.amin(dim=1) - 1e-4).all()


@over_the_table
def test_an_all_masked_row_is_refused(name):
    given = tokens()
    given = given._replace(mask=given.mask.clone().index_fill_(0, torch.tensor([1]), False))
    with pytest.raises(ValueError, match=r"items \[1\] .* no real part"):
        build_aggregation(name, WIDTH)(given)


@over_the_table
@pytest.mark.parametrize("scale", [1e4, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradient_are_finite_at_extreme_scales(name, scale, dtype):
    given = tokens((True, True, True, True, False), scale=scale)
    assert given.summary is not None
    parts, summary = (
        given.parts.to(dtype).requires_grad_(),
        given.summary.to(dtype).requires_grad_(),
    )
    pooled = stirred(name)(given._replace(parts=parts, summary=summary))
    torch.autograd.backward(pooled.sum())
    assert pooled.dtype == dtype
    assert pooled.isfinite().all()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in (parts, summary))


@pytest.mark.parametrize("name", ["attention", "log_sum_exp", "generalised_mean"])
def test_exponentials_are_taken_in_float32_whatever_the_tokens_are(name):
    aggregate, given = stirred(name), tokens((True,) * 200, scale=3.0)
    half = given.parts.to(torch.bfloat16)
    assert torch.equal(
        aggregate(given._replace(parts=half)),
        aggregate(given._replace(parts=half.float())).to(torch.bfloat16),
    )


@pytest.mark.parametrize("name", ["max", "max_with_cls"])
def test_max_sends_its_gradient_to_exactly_one_location_a_channel(name):
    given = tokens()
    tied = given.parts.clone().fill_(100.0).requires_grad_()  # every location ties
    torch.autograd.backward(build_aggregation(name, WIDTH)(given._replace(parts=tied)).sum())
    assert tied.grad is not None
    assert torch.equal((tied.grad != 0).sum(dim=1), torch.ones(3, WIDTH, dtype=torch.int64))


def test_cls_avg_and_max_equal_their_definitions():
    given = tokens()
    torch.testing.assert_close(build_aggregation("cls", WIDTH)(given), given.summary)
    torch.testing.assert_close(build_aggregation("avg", WIDTH)(given), given.parts.mean(dim=1))
    torch.testing.assert_close(build_aggregation("max", WIDTH)(given), given.parts.amax(dim=1))


@pytest.mark.parametrize("name", ["cls", "max_with_cls"])
def test_tokens_without_summary_are_refused_with_the_towers_that_have_one(name):
    with pytest.raises(ValueError, match=r"no summary\. ViTs with a class token"):
        build_aggregation(name, WIDTH)(tokens()._replace(summary=None))


@pytest.mark.parametrize(
    "make", [LogSumExp, GeneralisedMean], ids=["log_sum_exp", "generalised_mean"]
)
def test_soft_maxima_run_from_mean_to_max(make):
    given = tokens()
    soft = make(WIDTH, 1e-3) if make is LogSumExp else make(WIDTH, 1.0)
    torch.testing.assert_close(soft(given), given.parts.mean(dim=1), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        make(WIDTH, 300.0)(given), given.parts.amax(dim=1), rtol=2e-2, atol=2e-2
    )


@pytest.mark.parametrize(
    ("option", "count", "real", "expected"),
    [
        ({"share": 0.1}, 40, 40, (39 + 38 + 37 + 36) / 4),
        ({"share": 0.1}, 40, 20, (19 + 18) / 2),
        ({"share": 1.0}, 40, 40, 19.5),
        ({"most": 5}, 8, 8, (7 + 6 + 5 + 4 + 3) / 5),
        ({"most": 5}, 8, 3, (2 + 1 + 0) / 3),
        ({"most": 5}, 2, 2, (1 + 0) / 2),
    ],
)
def test_the_largest_parts_are_a_share_or_a_number_of_the_real_ones(option, count, real, expected):
    parts, mask = torch.arange(float(count)).view(1, count, 1), torch.arange(count) < real
    given = Tokens(None, parts, mask.unsqueeze(0), None)
    assert mean_of_largest(given, **option).item() == expected
