"""The controller: reference costs before the first update, one dual step each rollout, a run's folder.

Asynchronous training has it in the actor that trains: ``PPOTrainerAsync`` makes two more actors inside its
own process, one that generates and one that trains. The names that it looks up there are replaced in that
process, before it looks.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import ray
from openrlhf.trainer import ppo_trainer, ppo_trainer_async
from openrlhf.trainer.ppo_trainer import prepare_datasets
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.utils.logging_utils import init_logger

from openrlhf_rad.errors import ConfigError, WatchStop
from openrlhf_rad.method.constraint_set import ConstraintSet, Scored
from openrlhf_rad.method.reference import read_costs
from openrlhf_rad.method.soft_risk import SoftRisk
from openrlhf_rad.plugin import patches
from openrlhf_rad.plugin.arguments import RadOptions
from openrlhf_rad.plugin.attach import plain_class
from openrlhf_rad.plugin.compatibility import check_clip
from openrlhf_rad.plugin.costs.sources import cost_sources
from openrlhf_rad.plugin.experience import RadExperienceMaker
from openrlhf_rad.plugin.panel import LoggerPanel, others
from openrlhf_rad.plugin.record import Answers, batch_metrics
from openrlhf_rad.plugin.resume import capture, reference_of, reseed, restore, seed_of
from openrlhf_rad.plugin.rollout import SharedTokenizer
from openrlhf_rad.plugin.sampling import (
    AnswerSampler,
    OrderedSamples,
    WholeSamples,
    heldout_dataset,
    label_text,
    reference_indices,
)
from openrlhf_rad.plugin.shipping import ship
from openrlhf_rad.runs.folder import Kind, Reference, RunFolder
from openrlhf_rad.watches import Alarm, Watches, at_start, unlabelled

logger = init_logger(__name__)

#: Column of metrics.jsonl → OpenRLHF's name of it.
_OPENRLHF_METRICS = {
    "reward_mean": "rollout/reward_mean",
    "kl": "kl",
    "rollout_kl": "vllm_kl",
    "rollout_filtered": "is_filter_ratio",
    "response_length": "rollout/response_length_mean",
    "seconds_generation": "timing/generation",
    "seconds_experience": "timing/make_experience",
    "seconds_training": "timing/ppo_train",
    "seconds_weight_sync": "timing/broadcast",
    "seconds_step": "timing/step_total",
}


#: Whichever of OpenRLHF's trainers follows in a class's bases.
_Trainer: Any = object


class RadTraining(_Trainer):  # type: ignore[misc]
    """The dominance constraint on one of OpenRLHF's trainers: of synchronous training, or of asynchronous.

    Put before a class with OpenRLHF's training step, a ``samples_generator``, ``generate_kwargs`` and
    ``prompts_dataloader``.

    Args:
        options: RAD's options; the rest are the arguments of OpenRLHF's trainer.
    """

    def __init__(self, options: RadOptions, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        os.environ.update(options.variables)  # a worker of a cluster has not the driver's environment
        self.folder = RunFolder(options.out)
        self.samples_generator: OrderedSamples = OrderedSamples.like(
            self.samples_generator, SharedTokenizer.share(self.tokenizer)
        )
        self.experience_maker = self._rad_experience_maker()
        self.panel = LoggerPanel(self.wandb_logger, self.tensorboard_logger)
        self.sampler = AnswerSampler(self.samples_generator, self.experience_maker, self.generate_kwargs)

    def _rad_experience_maker(self) -> RadExperienceMaker:
        plain = self.experience_maker
        maker = RadExperienceMaker(
            plain.actor_model_group,
            plain.critic_model_group,
            plain.reward_model_group,
            plain.initial_model_group,
            self.kl_ctl,
            self.strategy,
            self.tokenizer,
        )
        colocated = self.args.train.colocate_all
        maker.cost_sources = cost_sources(
            self.options.profile,
            strategy=self.strategy,
            patience=self.options.patience,
            server_batch=self.options.server_batch,
            nodes=self.options.cost_nodes,
            gpus_per_node=self.options.cost_gpus_per_node,
            placement_group=plain.actor_model_group.placement_group if colocated else None,
        )
        return maker

    def begin(self) -> None:
        """Learn the reference costs, answer the held-out prompts; or resume from a checkpoint.

        Before any update: the engines hold π_ref, also where a checkpoint is gone on from.
        """
        self.states: dict[str, Any] = super().init_checkpoint_states()
        self.last = self.states["global_step"], self.states
        state = self._own_state()
        self.folder.rewind(self.states["global_step"])
        if state is None:
            self._look_for_labels()
        self.reference = self._reference(state)
        self.constraints = ConstraintSet(
            self.options.profile,
            Scored(self.reference.costs, self.reference.labels),
            fixed_dual=self.options.fixed_dual,
        )
        size = self.args.rollout.batch_size * self.args.rollout.n_samples_per_prompt
        for doubt in self.constraints.check_batch(size):
            logger.warning(doubt)
        check_clip(self.args.reward.clip_range, self.constraints.score_bound())
        self.experience_maker.constraints = self.constraints
        if self.options.soft_risk is not None:
            self.experience_maker.soft_risk = SoftRisk(self.options.soft_risk)
            batches = -(-len(self.prompts_dataloader.dataset) // self.args.rollout.batch_size)
            self.experience_maker.steps = batches * self.args.train.num_episodes
        self.watches = Watches.of(self.options.profile, fixed_dual=self.options.fixed_dual is not None)
        if state is not None:
            restore(self, state)
        elif self.options.heldout is not None:
            self.folder.write_answers("before", self.heldout_answers("before"))

    def end(self) -> None:
        """Answer the held-out prompts again, after the last update, and settle which model is exported."""
        if self.options.heldout is not None:
            self.folder.write_answers("after", self.heldout_answers("after"))
        ship(self)

    def init_checkpoint_states(self) -> dict[str, Any]:
        """OpenRLHF's own states, as the run began with them."""
        return self.states

    def _look_for_labels(self) -> None:
        """Say it where no training prompt, of a file or a hub, has the label that a watch needs."""
        labels = map(label_text, self.prompts_dataloader.dataset.labels)
        if told := unlabelled(self.options.profile.watches, labels):
            self._sound([Alarm(0, "inverted", "warn", f"step 0: {told}")])

    def _own_state(self) -> dict[str, Any] | None:
        """What RAD has in the checkpoint; None where the run begins.

        Raises:
            ConfigError: the checkpoint was not written by a run with RAD.
        """
        if not self.states["global_step"]:
            return None
        if "rad" not in self.states:
            raise ConfigError(
                f"the checkpoint in {self.args.ckpt.path} holds no λ: it is of a run without RAD;"
                " start a new run, or leave out --ckpt.load_enable"
            )
        state: dict[str, Any] = self.states["rad"]
        return state

    def _reference(self, state: dict[str, Any] | None) -> Reference:
        """Of the checkpoint, of a file, or sampled now, while the engines hold π_ref."""
        profile = self.options.profile
        reference = reference_of(profile, state) if state else None
        if reference is None:
            file = profile.reference.file
            reference = self._sampled(profile.reference_samples) if file is None else self._given(file)
        self.folder.write_reference(reference)
        return reference

    def _given(self, file: str) -> Reference:
        cost_r = read_costs(file)
        (source,) = self.experience_maker.cost_sources  # a profile with several refuses a file
        blank = [""] * cost_r.size
        return Reference({source: cost_r}, np.full(cost_r.size, np.nan), blank, blank)

    def _sampled(self, count: int) -> Reference:
        dataset = self.prompts_dataloader.dataset
        self.samples_generator.begin("reference")
        answers = self.sampler.sample(dataset, reference_indices(dataset, count, self.args.train.seed))
        prompts = [text.prompt for text in answers.texts]
        labels = [text.label or "" for text in answers.texts]
        costs = dict(answers.costs)
        refused_b = [text.refused for text in answers.texts]
        self._sound(at_start(self.options.profile, refused_b, Scored(costs, labels, prompts)))
        return Reference(costs, answers.reward_b, prompts, labels)

    def heldout_answers(self, moment: Kind) -> list[dict[str, Any]]:
        """Scored answers to the held-out prompts by the weights that the engines hold."""
        assert self.options.heldout is not None
        dataset = heldout_dataset(self.options.heldout, self.strategy, self.tokenizer)
        indices = [*range(len(dataset))] * self.options.heldout_samples
        self.samples_generator.begin(f"held out {moment}")
        return self.sampler.sample(dataset, indices).rows()

    def ppo_train(self, global_steps: int) -> dict[str, Any]:
        """OpenRLHF's gradient steps; what they draw follows from the seed and the step."""
        groups = [group for group in (self.actor_model_group, self.critic_model_group) if group is not None]
        ray.get([ref for group in groups for ref in group.async_run_method("reseed", step=global_steps)])
        status: dict[str, Any] = super().ppo_train(global_steps)
        return status

    def train_step(self, rollout_samples: list[Any], global_step: int) -> tuple[dict[str, Any], int]:
        """One rollout: OpenRLHF's step, and what the constraint saw, under ``rad/``, for its loggers."""
        maker = self.experience_maker
        maker.step = global_step
        status, next_step = super().train_step(rollout_samples, global_step)
        started = time.perf_counter()
        status.update({f"rad/{name}": value for name, value in maker.last_metrics.items()})
        answers = Answers.of(maker.last_experiences, maker.last_texts, list(maker.cost_sources))
        seed = seed_of(self.args.train.seed, "log", next_step)
        self.folder.append_samples(
            {"step": next_step, **row} for row in answers.sample(self.options.log_answers, seed)
        )
        self.folder.write_step(next_step, answers.columns())
        maker.last_metrics.update(batch_metrics(self.options.profile, answers, maker.last_experiences))
        maker.last_experiences, maker.last_texts = [], []
        maker.last_metrics["seconds_record"] = time.perf_counter() - started
        return status, next_step

    def broadcast_to_vllm(self) -> None:
        """Hand the weights to the engines, and count it: how old an answer's weights are is measured so."""
        super().broadcast_to_vllm()
        self.experience_maker.weight_syncs += 1

    def save_logs_and_checkpoints(
        self, global_step: int, logs_dict: Any = None, client_states: Any = None
    ) -> None:
        """Write the step's line of ``metrics.jsonl``; put λ into OpenRLHF's checkpoint; let the watches look.

        Raises:
            WatchStop: a watch stops the run, after its checkpoint.
        """
        logs = dict(logs_dict or {})
        if self.args.algo.kl.init_coef <= 0:
            logs.pop("kl", None)  # there is no reference model; OpenRLHF's KL loss logs 0
        metrics = {
            "step": global_step,
            **{column: logs[name] for column, name in _OPENRLHF_METRICS.items() if name in logs},
            **self.experience_maker.last_metrics,
        }
        self.folder.append_metrics(metrics)
        if global_step % self.args.logger.logging_steps == 0:
            self.panel.log(global_step, metrics)
        alarms = self.watches.see(metrics)
        alarms += [
            Alarm(global_step, "constant", "warn", f"step {global_step}: {remark}")
            for remark in self.experience_maker.remarks()
        ]
        states = {} if client_states is None else client_states
        # In place: the best checkpoint is saved with the same states.
        states["rad"] = capture(self)
        # OpenRLHF would begin an episode again whose last prompts are used up.
        states["episode"] = states.get("episode", 0) + self.samples_generator.episode_is_over
        self.last = global_step, states
        self.folder.flush()
        super().save_logs_and_checkpoints(global_step, others(logs_dict or {}), states)
        self._sound(alarms)

    def _sound(self, alarms: list[Alarm]) -> None:
        for alarm in alarms:
            logger.warning(f"{alarm.watch}: {alarm.message}")
            self.folder.append_alarm(alarm.step, alarm.watch, alarm.message)
        stops = [alarm.message for alarm in alarms if alarm.severity == "stop"]
        if stops:
            raise WatchStop("\n".join(stops))


class RadTrainer(RadTraining, plain_class(ppo_trainer, "PPOTrainer")):  # type: ignore[misc]
    """OpenRLHF's PPO trainer with the constraint."""

    def __init__(self, options: RadOptions, pretrain: str, strategy: Any, *args: Any, **kwargs: Any) -> None:
        # The order of the prompts is drawn while OpenRLHF's trainer is built, without a seed of its own.
        reseed(seed_of(strategy.args.train.seed, "trainer"))
        super().__init__(options, pretrain, strategy, *args, **kwargs)

    def fit(self, global_step: int = 0) -> None:
        """Learn the reference costs, train as OpenRLHF does, answer the held-out prompts before and after."""
        self.begin()
        super().fit(global_step)
        self.end()


class RadTrainerAsync(plain_class(ppo_trainer_async, "PPOTrainerAsync")):  # type: ignore[misc]
    """OpenRLHF's asynchronous controller; an exception in either of its loops ends the run at once.

    Args:
        options: RAD's options; the rest are the arguments of OpenRLHF's controller.
    """

    def __init__(self, options: RadOptions, *args: Any, **generate_kwargs: Any) -> None:
        patches.apply(patches.asynchronous(options, generate_kwargs))
        super().__init__(*args, **generate_kwargs)


class RadGenerator(plain_class(ppo_trainer_async, "GenerateSamplesActor")):  # type: ignore[misc]
    """OpenRLHF's generating loop, which loses no answer and sends its tokenizer to the engines once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plain: Any = self.samples_generator
        self.samples_generator: Any = WholeSamples.like(plain, SharedTokenizer.share(plain.tokenizer))


class SamplingActor(plain_class(ppo_trainer_async, "TrainingActor")):  # type: ignore[misc]
    """OpenRLHF's training loop, which can also sample: before the other loop starts, and after it has ended.

    Args:
        generate_kwargs: how OpenRLHF generates; the rest are the arguments of its training loop.
    """

    def __init__(self, generate_kwargs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.generate_kwargs = generate_kwargs
        self.prompts_dataloader, *_ = prepare_datasets(self.strategy, self.tokenizer)
        self.samples_generator = SamplesGenerator(
            strategy=self.strategy,
            prompts_dataloader=self.prompts_dataloader,
            eval_dataloader=None,
            tokenizer=self.tokenizer,
            vllm_engines=self.vllm_engines,
        )


class RadTrainingActor(RadTraining, SamplingActor):
    """The training loop with the constraint."""

    def init_checkpoint_states(self) -> dict[str, Any]:
        """The controller's first call: neither loop runs yet, and the engines hold π_ref."""
        self.begin()
        states: dict[str, Any] = super().init_checkpoint_states()
        return states

    def fit(self, global_step: int = 0) -> None:
        """Train on what the other loop generates, to its end, then answer the held-out prompts again."""
        super().fit(global_step)
        self.end()
