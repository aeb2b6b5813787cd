"""The advantage hook: costs of the whole batch → scores → advantages on r + λs (Eqs. (14), (38))."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties

from openrlhf_rad.errors import RewardError
from openrlhf_rad.method.constraint_set import ConstraintSet, Scored, SetResult
from openrlhf_rad.method.soft_risk import SoftRisk
from openrlhf_rad.naming import cost_columns, metric_columns
from openrlhf_rad.plugin.costs.sources import Variety, VaryingCosts
from openrlhf_rad.plugin.costs.texts import RatedText, rated_texts
from openrlhf_rad.plugin.rollout import WEIGHT_SYNCS

Array = NDArray[np.float64]

# Of OpenRLHF's estimators: those that divide all advantages of a rollout by one spread, and those whose
# baseline holds the answer's own reward, so that (K − 1)/K of it is left for K answers to a prompt.
_WHITENING = ("reinforce", "reinforce_baseline", "gae")
_SHRINKING = ("dr_grpo", "group_norm")


class RadExperienceMaker(RemoteExperienceMaker):  # type: ignore[misc]
    """OpenRLHF's experience maker with costs beside the reward.

    Attributes:
        cost_sources: where costs come from, by name.
        rewards: whether rewards differ.
        constraints: of the profile; None until the reference costs are known.
        soft_risk: of the baseline RA-RLHF; None elsewhere. step, steps: for its schedule.
        seconds_cost: how long the last batch waited for its costs.
        weight_syncs: how often the engines have been handed the policy's weights.
        staleness: how many of those the oldest answer of the last batch had not seen when it was begun.
        last_metrics, last_experiences, last_texts: of the last batch; costs in their own units.
    """

    cost_sources: Mapping[str, VaryingCosts]
    constraints: ConstraintSet | None = None
    soft_risk: SoftRisk | None = None
    step = steps = 0
    seconds_cost: float
    weight_syncs = 0
    staleness: int | None = None
    last_metrics: dict[str, float]
    last_experiences: list[Any]
    last_texts: list[list[RatedText]]
    #: Answers of the batch that dynamic filtering keeps from training, not from the constraint.
    _filtered: Sequence[Any] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rewards = Variety()

    def make_experience_batch(self, rollout_samples: list[Any]) -> list[Any]:
        """As OpenRLHF's, with an eye on what dynamic filtering has dropped."""
        dropped = filtered(rollout_samples)
        self._filtered = self.split_rollout_samples(dropped) if dropped else ()
        experiences: list[Any] = super().make_experience_batch(rollout_samples)
        return experiences

    def make_experience(self, samples_list: list[Any]) -> list[Any]:
        """Forward all models, the cost sources beside them; attach_costs() says where the costs are then."""
        started = time.perf_counter()
        sampled = [*samples_list, *self._filtered]
        self.staleness = self._staleness(sampled)
        self.last_texts, handles = self._begin(sampled)
        begun = time.perf_counter()
        experiences: list[Any] = super().make_experience(samples_list)
        self._check_rewards(experiences)
        if self.initial_model_group is None:
            for experience in experiences:  # OpenRLHF logs 0 where there is nothing to differ from
                experience.info.pop("kl", None), experience.info.pop("logprobs_diff", None)
        forwarded = time.perf_counter()
        attach_costs([*experiences, *self._filtered], self._finish(handles))
        self.seconds_cost = begun - started + time.perf_counter() - forwarded
        return experiences

    def score_costs(self, samples_list: list[Any]) -> list[list[RatedText]]:
        """Attach the costs of samples that no model has to see beside them; returns what was rated."""
        texts, handles = self._begin(samples_list)
        attach_costs(samples_list, self._finish(handles))
        return texts

    def _check_rewards(self, experiences: Sequence[Any]) -> None:
        """Raises RewardError for one that is not a finite number, or when they no longer differ."""
        for experience in experiences:
            bad = ~torch.isfinite(experience.rewards.float())
            if bad.any():
                position = int(bad.nonzero()[0])
                raise RewardError(
                    f"the reward is {experience.rewards[position].item()} for the prompt"
                    f" {experience.prompts[position][:200]!r}; a reward must be a finite number"
                )
        rewards = torch.cat([experience.rewards for experience in experiences]).tolist()
        if batches := self.rewards.constant(rewards):
            raise RewardError(
                f"the reward is {rewards[0]:g} for all samples of {batches} batches in a row ({len(rewards)}"
                " in the last); a reward must tell answers apart; check that its source sees the answers and"
                " that its model is loaded"
            )

    def remarks(self) -> list[str]:
        """What to say of the ratings of the last batch, which do not stop the run."""
        reward = self.rewards.remark
        found = [source.remark for source in self.cost_sources.values()]
        return [remark for remark in (reward and f"the reward {reward}", *found) if remark]

    def _staleness(self, samples_list: list[Any]) -> int | None:
        """Updates since the weights of the oldest answer; None where no engine of RAD's has answered."""
        seen = [samples.info.pop(WEIGHT_SYNCS, None) for samples in samples_list]
        if any(syncs is None for syncs in seen):
            return None
        return self.weight_syncs - int(min(syncs.min() for syncs in seen))

    def _begin(self, sampled: Sequence[Any]) -> tuple[list[list[RatedText]], dict[str, Any]]:
        agent = bool(self.args.train.agent_func_path)
        texts = [rated_texts(samples, self.tokenizer, agent=agent) for samples in sampled]
        return texts, {name: source.begin(texts) for name, source in self.cost_sources.items()}

    def _finish(self, handles: Mapping[str, Any]) -> dict[str, list[float]]:
        return {name: self.cost_sources[name].finish(handle) for name, handle in handles.items()}

    def compute_advantages_and_returns(self, experiences: list[Any]) -> list[Any]:
        """Add Σ λ·s(c) to the rewards that advantages are made of; the logged reward and costs stay raw."""
        if self.constraints is None:
            raise RuntimeError("the reference costs are not known yet")
        started = time.perf_counter()
        sampled = [*experiences, *self._filtered]
        result = self.constraints(scored(sampled, list(self.cost_sources)))
        trained = sum(len(experience.sequences) for experience in experiences)
        self.last_metrics = {
            **metric_columns(result.metrics),
            "seconds_rad": time.perf_counter() - started,
            "seconds_cost": self.seconds_cost,
            **({} if self.staleness is None else {"staleness": self.staleness}),
        }
        if self.args.algo.dynamic_filtering_enable:
            self.last_metrics["filtered_share"] = 1 - trained / len(result.bonus_b)
        self.last_experiences = sampled
        kept = SetResult(result.bonus_b[:trained], result.advantage_b[:trained], result.metrics)
        return self._with_bonus(experiences, kept)

    def _with_bonus(self, experiences: list[Any], result: SetResult) -> list[Any]:
        """OpenRLHF's advantages on reward + bonus, with the logged reward as it was without the bonus.

        What has its own baseline comes after OpenRLHF's: RLOO with two answers a prompt would double its
        variance. The estimators that whiten reward and bonus by one factor have to see both.
        """
        # In float64, and about the median: float32 keeps seven digits, which one extreme cost would use up.
        before_b = result.bonus_b - np.median(result.bonus_b)
        after_b = result.advantage_b
        answers = self.args.rollout.n_samples_per_prompt
        if self.advantage_estimator in _WHITENING:
            before_b, after_b = before_b + after_b, np.zeros(after_b.size)
        elif self.advantage_estimator in _SHRINKING:
            after_b = after_b * (answers - 1) / answers
        if self.advantage_estimator == "group_norm":
            before_b, after_b = np.zeros(after_b.size), after_b + self._within_prompts(experiences, before_b)
        # Length penalties act on the reward alone, so they come first, in OpenRLHF's precision; OpenRLHF also
        # copies the rewards that it finds then into what it logs.
        for experience in experiences:
            wide = torch.promote_types(experience.rewards.dtype, torch.float32)
            experience.rewards = experience.rewards.to(wide)
        apply_length_penalties(experiences, self.args)
        logged = [experience.info["reward"] for experience in experiences]
        sizes = [len(experience.rewards) for experience in experiences]
        for experience, bonus in zip(experiences, _split(before_b, sizes), strict=True):
            experience.rewards = experience.rewards + bonus
        penalties = self.args.reward.overlong_buffer_len, self.args.reward.stop_properly_penalty_coef
        self.args.reward.overlong_buffer_len = self.args.reward.stop_properly_penalty_coef = None
        try:
            experiences = super().compute_advantages_and_returns(experiences)
        finally:
            self.args.reward.overlong_buffer_len, self.args.reward.stop_properly_penalty_coef = penalties
        for experience, reward, bonus in zip(experiences, logged, _split(after_b, sizes), strict=True):
            experience.info["reward"] = reward
            token_bonus = bonus[:, None] * experience.action_mask
            experience.advantages = experience.advantages + token_bonus
            experience.returns = experience.returns + token_bonus
            experience.info["return"] = experience.info["return"] + bonus
        if self.soft_risk is not None:
            self._restrict(experiences, self.soft_risk)
        return experiences

    def _restrict(self, experiences: list[Any], soft_risk: SoftRisk) -> None:
        """Let only the answers of lowest return be learned from."""
        return_b = torch.cat([experience.info["return"] for experience in experiences]).double().numpy()
        # That of an answer as a whole stands at its first token; later ones lack the KL of those before.
        firsts = [experience.action_mask.long().argmax(dim=1, keepdim=True) for experience in experiences]
        held = zip(experiences, firsts, strict=True)
        first_b = torch.cat([experience.advantages.gather(1, first)[:, 0] for experience, first in held])
        advantage_b = first_b.double().numpy()
        share = soft_risk.share_at(self.step, self.steps)
        factor_b, middle = soft_risk.restriction(advantage_b, return_b, share)
        sizes = [len(experience.rewards) for experience in experiences]
        for experience, factor in zip(experiences, _split(factor_b, sizes), strict=True):
            centred = (experience.advantages - middle) * experience.action_mask
            experience.advantages = factor[:, None] * centred

    def _within_prompts(self, experiences: list[Any], bonus_b: Array) -> Array:
        """λs − mean over the prompt's answers, to add to advantages that were made of the reward alone.

        ``group_norm`` divides by the spread within a prompt's answers. Of r + λs it would give each prompt a
        λ of its own, the smaller the more its answers differ in harm; so it sees r, and λs stays as it is.
        """
        index = np.array([place for experience in experiences for place in experience.index])
        ordered = np.empty_like(bonus_b)
        ordered[index] = bonus_b
        groups = ordered.reshape(-1, self.args.rollout.n_samples_per_prompt)
        return np.asarray((groups - groups.mean(-1, keepdims=True)).reshape(-1)[index])


def _split(value_b: Array, sizes: list[int]) -> tuple[torch.Tensor, ...]:
    return torch.split(torch.as_tensor(value_b, dtype=torch.float32), sizes)


def attach_costs(experiences: Sequence[Any], costs: Mapping[str, list[float]]) -> None:
    """Put the costs of each source, one a sample in order, into ``info`` of the experiences, (B,) each."""
    sizes = [len(experience.sequences) for experience in experiences]
    for name, column in cost_columns(costs).items():
        cost_b = torch.tensor(costs[name], dtype=torch.float32)
        for experience, cost in zip(experiences, torch.split(cost_b, sizes), strict=True):
            experience.info[column] = cost


def scored(experiences: Sequence[Any], sources: Sequence[str]) -> Scored:
    """The costs and labels of all samples, in order."""
    costs = {
        name: torch.cat([experience.info[column] for experience in experiences]).double().numpy()
        for name, column in cost_columns(sources).items()
    }
    labels = [label or "" for experience in experiences for label in experience.labels]
    prompts = [prompt for experience in experiences for prompt in experience.prompts]
    return Scored(costs, labels, prompts)


def send_along(kept: list[Any], made: list[Any], each: int) -> None:
    """Give what was filtered out, ``each`` answers a prompt, to the prompts that were kept, in turn."""
    known = {id(sample) for sample in kept}
    dropped = [sample for sample in made if id(sample) not in known]
    for number, sample in enumerate(dropped if kept else ()):
        place = number // each * each % len(kept)
        kept[place].filtered = [*getattr(kept[place], "filtered", ()), sample]


def filtered(samples: Iterable[Any]) -> list[Any]:
    """The answers that were filtered out and travel with these."""
    return [one for sample in samples for one in getattr(sample, "filtered", ())]
