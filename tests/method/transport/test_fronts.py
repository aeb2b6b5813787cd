"""Batches, the debiased divergence, tensors, and streamed quantiles."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import expon, norm

from openrlhf_rad.errors import CostError, TransportError
from openrlhf_rad.method.transport import dominance_gap, sinkhorn, sinkhorn_batch, sinkhorn_divergence
from openrlhf_rad.method.transport.stream import QuantileSketch, streamed_quantiles

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch

    from openrlhf_rad.method.transport.torch_front import divergence_loss, sinkhorn_loss

RNG = np.random.default_rng(9)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), count=st.integers(1, 6))
def test_a_batch_is_its_problems_one_by_one(adversarial, spread, data, count):
    pairs = [data.draw(adversarial()) for _ in range(count)]
    epsilon = [0.1 * spread(x, y) for x, y in pairs]
    batch = sinkhorn_batch([x for x, _ in pairs], [y for _, y in pairs], epsilon).require()
    assert len(batch) == count
    for (x, y), e, found in zip(pairs, epsilon, batch, strict=True):
        single = sinkhorn(x, y, e)
        assert found.value == pytest.approx(single.value, rel=1e-9, abs=1e-9 * e)
        np.testing.assert_allclose(found.gradient, single.gradient, atol=1e-9)
        np.testing.assert_allclose(found.gradient_y, single.gradient_y, atol=1e-9)
        np.testing.assert_allclose(found.f[:, None] + found.g, single.f[:, None] + single.g, atol=1e-6 * e)


def test_a_batch_of_bootstrap_resamples():
    x, y = RNG.normal(size=80), RNG.normal(0.5, size=60)
    xs, ys = RNG.choice(x, (200, 80)), RNG.choice(y, (200, 60))
    batch = sinkhorn_batch(xs, ys, 0.1).require()
    assert batch.value.shape == (200,)
    assert batch[-1].cost == pytest.approx(sinkhorn(xs[-1], ys[-1], 0.1).cost)
    with pytest.raises(IndexError):
        batch[200]


def test_a_batch_that_did_not_converge_names_the_first():
    xs, ys = [[1.0], RNG.standard_t(2, size=30)], [[1.0], RNG.standard_t(2, size=30)]
    batch = sinkhorn_batch(xs, ys, 0.001, max_iterations=1)
    assert batch.converged.tolist() == [True, False]
    with pytest.raises(
        TransportError, match="1 of 2 problems did not converge; number 1: sinkhorn: marginal"
    ):
        batch.require()


def test_the_divergence_of_a_sample_from_itself_is_0():
    x = RNG.normal(size=50)
    same = sinkhorn_divergence(x, RNG.permutation(x), 0.3)
    assert same.value == pytest.approx(0, abs=1e-9)
    biased = sinkhorn(x, x, 0.3).cost
    assert biased > 0.1


def test_the_divergence_tends_to_the_gap():
    x, y = RNG.normal(size=100), RNG.normal(0.3, 1.5, size=100)
    errors = [abs(sinkhorn_divergence(x, y, e).value - dominance_gap(x, y)) for e in (0.1, 1e-3)]
    assert errors[1] < 0.1 * errors[0] < 0.05


def test_the_divergence_gradients_are_finite_differences():
    x, y = RNG.normal(size=7), RNG.normal(size=5)
    found, step = sinkhorn_divergence(x, y, 0.3), 1e-5
    for i in range(7):
        bump = step * (np.arange(7) == i)
        slope = sinkhorn_divergence(x + bump, y, 0.3).value - sinkhorn_divergence(x - bump, y, 0.3).value
        assert found.gradient[i] == pytest.approx(slope / (2 * step), abs=1e-8)
    for j in range(5):
        bump = step * (np.arange(5) == j)
        slope = sinkhorn_divergence(x, y + bump, 0.3).value - sinkhorn_divergence(x, y - bump, 0.3).value
        assert found.gradient_y[j] == pytest.approx(slope / (2 * step), abs=1e-8)


@pytest.mark.parametrize("loss", [sinkhorn_loss, divergence_loss])
def test_gradcheck(loss):
    x = torch.tensor(RNG.normal(size=9), requires_grad=True)
    y = torch.tensor(RNG.normal(size=6), requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: 3.0 * loss(a, b, 0.2), (x, y))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_come_back_as_tensors_of_their_dtype(dtype):
    x, y = torch.tensor(RNG.normal(size=9)).to(dtype), torch.tensor(RNG.normal(size=6)).to(dtype)
    result = sinkhorn(x, y, 0.2)
    plain = sinkhorn(x.double().numpy(), y.double().numpy(), 0.2)
    assert result.value == plain.value
    for name in ("gradient", "gradient_y", "f", "g"):
        found = getattr(result, name)
        assert (found.dtype, found.device) == (dtype, x.device)
        torch.testing.assert_close(found, torch.tensor(getattr(plain, name)).to(dtype))
    assert sinkhorn(x, y, 0.2, init=result).converged
    leaf = x.clone().requires_grad_()
    sinkhorn_loss(leaf, y, 0.2).backward()
    torch.testing.assert_close(leaf.grad, result.gradient)


def test_whole_number_tensors_give_float64():
    assert sinkhorn(torch.tensor([1, 2]), torch.tensor([2, 3]), 0.2).gradient.dtype == torch.float64


def test_tensors_on_two_devices_are_refused():
    with pytest.raises(TransportError) as caught:
        sinkhorn(torch.ones(2), torch.ones(2, device="meta"), 0.1)
    assert (
        str(caught.value) == "x is on cpu, y on meta; both must be on one device; move y with .to(x.device)"
    )


def test_a_loss_that_did_not_converge_is_refused():
    x, y = torch.tensor(RNG.standard_t(2, size=30)), torch.tensor(RNG.standard_t(2, size=30))
    with pytest.raises(TransportError, match="raise max_iterations"):
        sinkhorn_loss(x, y, 0.001, max_iterations=1)


@pytest.mark.parametrize("law", [norm(), expon()], ids=["normal", "exponential"])
def test_streamed_quantiles_lie_within_their_bound(law):
    sample = law.rvs(size=300_000, random_state=4)
    levels = np.array([0.05, 0.5, 0.9, 0.99, 0.999])
    sketch = QuantileSketch()
    for part in np.array_split(sample, 7):
        piece = QuantileSketch()
        piece.update(part)
        sketch.merge(piece)
    found = sketch.quantiles(levels)
    assert not found.exact
    assert found.count == sample.size
    rank = np.searchsorted(np.sort(sample.astype(np.float32)), found.quantile_n, side="right") / sample.size
    assert (rank >= found.low_n).all()
    assert (rank <= found.high_n).all()
    assert (found.high_n - levels <= 0.4 / 100 * (1 - levels)).all()
    # The law itself: the sample's own error, four standard deviations, comes on top.
    noise = 4 * np.sqrt(levels * (1 - levels) / sample.size)
    assert (np.abs(law.cdf(found.quantile_n) - levels) <= found.high_n - levels + noise).all()


def test_a_short_stream_is_exact():
    chunks = [[3.0, 1.0], [], [2.0], [4.0]]
    found = streamed_quantiles(chunks, 4)
    assert found.exact
    assert found.quantile_n.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([], "the stream held 0 costs"),
        ([[1.0, np.nan]], "1 of 2 costs are not finite"),
        ([[1e39]], "a cost is 1e+39; a sketch keeps float32, up to 3.4e38; rescale the costs"),
    ],
)
def test_bad_streams_are_refused(chunks, words):
    with pytest.raises(CostError) as caught:
        streamed_quantiles(chunks, 4)
    assert words in str(caught.value)


def test_a_bad_size_or_level_is_refused():
    with pytest.raises(TransportError, match="size is 5; it must be even, from 4 to 1024; 100 is usual"):
        QuantileSketch(5)
    sketch = QuantileSketch()
    sketch.update([1.0])
    with pytest.raises(TransportError, match=r"a level lies outside \[0, 1\]"):
        sketch.quantiles([1.5])
