"""The loss hook around OpenRLHF's own PolicyLoss: its gradient is that of REINFORCE."""

import pytest
import torch
from openrlhf.models.loss import PolicyLoss
from openrlhf.models.utils import compute_approx_kl

from openrlhf_rad.plugin.actor import ReinforceLoss

ROWS, TOKENS, WORDS = 3, 5, 4


@pytest.fixture
def batch():
    """Logits of a policy, its tokens, advantages, a ragged mask and log-probabilities of before."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "logits": normal(ROWS, TOKENS, WORDS).requires_grad_(),
        "tokens": torch.randint(WORDS, (ROWS, TOKENS), generator=generator),
        "advantages": 30 * normal(ROWS, TOKENS),
        "mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 1, 0]]),
        "before": normal(ROWS, TOKENS) - 2,
    }


def log_probs(batch, logits=None):
    chosen = batch["tokens"].unsqueeze(-1)
    return (batch["logits"] if logits is None else logits).log_softmax(-1).gather(-1, chosen).squeeze(-1)


def results(loss_fn, batch, before=None, **more):
    """The five results of the loss, called as OpenRLHF's trainer does."""
    return loss_fn(
        log_probs(batch),
        batch["before"] if before is None else before,
        batch["advantages"],
        action_mask=batch["mask"],
        **{"rollout_log_probs": None, "dp_size": 1, "batch_num_tokens": None, "global_batch_size": None}
        | more,
    )


def gradient(value, batch):
    return torch.autograd.grad(value, batch["logits"])[0]


def objective(batch, logits=None):
    """−Σ Â log π · mask / tokens, written down afresh."""
    total = torch.zeros((), dtype=torch.float64)
    lengths = 0
    logp = log_probs(batch, logits)
    for row in range(ROWS):
        for token in range(TOKENS):
            if batch["mask"][row, token]:
                total = total - batch["advantages"][row, token] * logp[row, token]
                lengths += 1
    return total / lengths


SETTINGS = [
    {},
    {"clip_eps_low": 0.0, "clip_eps_high": 0.0},
    {"clip_eps_low": 0.2, "clip_eps_high": 0.28, "dual_clip": 3.0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_gradient_is_that_of_reinforce(settings, batch):
    found = gradient(results(ReinforceLoss(PolicyLoss(**settings)), batch)[0], batch)
    torch.testing.assert_close(found, gradient(objective(batch), batch), rtol=1e-12, atol=1e-12)


def test_the_gradient_agrees_with_finite_differences(batch):
    found = gradient(results(ReinforceLoss(PolicyLoss()), batch)[0], batch)
    step = 1e-6
    flat = batch["logits"].detach().reshape(-1)
    for place in range(flat.numel()):
        values = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[place] += sign * step
            values.append(objective(batch, moved.view(ROWS, TOKENS, WORDS)).item())
        assert found.reshape(-1)[place].item() == pytest.approx(
            (values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-6
        )


def test_micro_batches_and_ranks_add_up_to_the_whole(batch):
    """With OpenRLHF's own normalisation, rows in two parts of two ranks give the gradient of all rows."""
    tokens = float(batch["mask"].sum())
    whole = gradient(objective(batch), batch)
    parts = torch.zeros_like(whole)
    for rows in ([0], [1, 2]):
        part = {name: value[rows] for name, value in batch.items()}
        logits, part["logits"] = batch["logits"], batch["logits"][rows]
        loss = results(ReinforceLoss(PolicyLoss()), part, dp_size=2, batch_num_tokens=tokens)[0]
        parts += torch.autograd.grad(loss, logits)[0] / 2  # data-parallel ranks average
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_the_policy_of_before_does_not_matter(shift, batch):
    """PPO would clip here, or weigh by e^±5."""
    loss_fn = ReinforceLoss(PolicyLoss())
    here = gradient(results(loss_fn, batch, before=log_probs(batch).detach() + shift)[0], batch)
    torch.testing.assert_close(here, gradient(objective(batch), batch), rtol=1e-12, atol=1e-12)
    if shift:
        plain = gradient(results(PolicyLoss(), batch, before=log_probs(batch).detach() + shift)[0], batch)
        assert not torch.allclose(plain, here, rtol=0.1)


def test_no_sample_counts_as_clipped(batch):
    assert results(ReinforceLoss(PolicyLoss()), batch)[1].item() == 0.0
    assert results(PolicyLoss(), batch)[1].item() > 0.0


def test_the_logged_kl_is_openrlhf_s(batch):
    assert results(ReinforceLoss(PolicyLoss()), batch)[2].item() == pytest.approx(
        results(PolicyLoss(), batch)[2].item(), rel=1e-12
    )
    assert results(ReinforceLoss(PolicyLoss()), batch)[2].item() != 0.0


def test_an_empty_mask_logs_no_nan(batch):
    batch["mask"] = torch.zeros_like(batch["mask"])
    assert results(ReinforceLoss(PolicyLoss()), batch, batch_num_tokens=7.0)[2].item() == 0.0


def test_the_correction_for_the_engine_still_acts(batch):
    """Token clip: each token's gradient is weighed by min(max(π_train / π_engine, low), high)."""
    settings = {
        "is_correction_level": "token",
        "is_correction_mode": "clip",
        "is_correction_threshold": [0.5, 2.0],
    }
    shift = torch.linspace(-1.5, 1.5, ROWS * TOKENS, dtype=torch.float64).view(ROWS, TOKENS)
    engine = log_probs(batch).detach() - shift
    loss, _, _, vllm_kl, filtered = results(
        ReinforceLoss(PolicyLoss(**settings)), batch, rollout_log_probs=engine
    )
    weights = shift.exp().clamp(0.5, 2.0)
    mask = batch["mask"].bool()
    assert 0 < filtered.item() < 1
    assert filtered.item() == pytest.approx(
        ((shift.abs() > torch.tensor(2.0).log()) & mask).sum() / mask.sum()
    )
    assert vllm_kl.item() == pytest.approx((-shift)[mask].mean().item())
    weighed = {**batch, "advantages": batch["advantages"] * weights}
    torch.testing.assert_close(gradient(loss, batch), gradient(objective(weighed), batch))


@pytest.mark.parametrize("level", ["token", "seq", "off"])
def test_answers_of_earlier_weights_need_the_correction(level):
    """All six answers of one token under μ, enumerated: with the weights π/μ the gradient is that of E_π[A].

    What ``--train.async_enable`` without a correction would follow instead is another direction.
    """
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    earlier = torch.log_softmax(logits.detach() + 0.5 * torch.randn(6, generator=generator), 0)
    gains = torch.randn(6, generator=generator, dtype=torch.float64)
    log_probs = torch.log_softmax(logits, 0)
    (truth,) = torch.autograd.grad((log_probs.exp() * gains).sum(), logits, retain_graph=True)

    loss = ReinforceLoss(PolicyLoss(is_correction_level=level, is_correction_threshold=[0.01, 100.0]))
    one = torch.ones(6, 1)
    share = 6 * earlier.exp() * gains  # the mean over six answers is then the mean under μ
    found = loss(
        log_probs[:, None],
        log_probs[:, None],
        share[:, None],
        action_mask=one,
        rollout_log_probs=earlier[:, None],
    )
    (gradient,) = torch.autograd.grad(-found[0], logits)
    agrees = torch.allclose(gradient, truth, atol=1e-9)
    assert agrees == (level != "off")
    if level == "off":
        assert torch.cosine_similarity(gradient, truth, 0) < 0.95


def kl_gradients(estimator, *, unbiased=False):
    """Mean cosine with −∇KL of what OpenRLHF's estimator gives in the reward and as a loss, and its length.

    Policies of one token among 24, enumerated; each differs from its reference by normal logits.
    """
    cosines = {"reward": [], "loss": []}
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        reference = torch.log_softmax(torch.randn(24, generator=generator, dtype=torch.float64), 0)
        logits = (reference + torch.randn(24, generator=generator, dtype=torch.float64)).requires_grad_()
        log_probs = torch.log_softmax(logits, 0)
        share = log_probs.exp().detach()
        kl = compute_approx_kl(log_probs, reference, kl_estimator=estimator, unbiased_gradient=unbiased)
        exact = (log_probs.exp() * (log_probs - reference)).sum()
        (truth,) = torch.autograd.grad(-exact, logits, retain_graph=True)
        for name, objective in {
            "reward": (share * -kl.detach() * log_probs).sum(),  # REINFORCE on −KL
            "loss": (share * -kl).sum(),
        }.items():
            (found,) = torch.autograd.grad(objective, logits, retain_graph=True)
            length = float(found.norm() / truth.norm())
            cosines[name].append(float(torch.cosine_similarity(found, truth, 0)) if length > 1e-4 else 0.0)
    return {name: sum(values) / len(values) for name, values in cosines.items()}


@pytest.mark.parametrize(
    ("estimator", "in_the_reward", "as_a_loss"),
    [("k1", 1.0, 0.0), ("k2", 0.49, 1.0), ("k3", 0.15, 0.92)],
)
def test_which_kl_estimators_pull_towards_the_reference(estimator, in_the_reward, as_a_loss):
    """The ground on which --algo.kl.* is refused: docs/modes.md cites these cosines."""
    found = kl_gradients(estimator)
    assert found["reward"] == pytest.approx(in_the_reward, abs=0.01)
    assert found["loss"] == pytest.approx(as_a_loss, abs=0.01)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_unbiased_gradient_is_that_of_the_kl(estimator):
    assert kl_gradients(estimator, unbiased=True)["loss"] == pytest.approx(1.0, abs=1e-4)
