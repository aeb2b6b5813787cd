"""Asynchronous training: OpenRLHF's three actors of it, with the constraint in the one that trains.

``PPOTrainerAsync`` makes two more actors inside its own process, one that generates and one that trains. The
names that it looks up there are replaced in that process, before it looks.
"""

from __future__ import annotations

from typing import Any

from openrlhf.trainer import ppo_trainer_async
from openrlhf.trainer.ppo_trainer import prepare_datasets
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

from openrlhf_rad.plugin.arguments import RadOptions
from openrlhf_rad.plugin.registry import plain_class, register
from openrlhf_rad.plugin.rollout import SharedTokenizer
from openrlhf_rad.plugin.samples import WholeSamples
from openrlhf_rad.plugin.trainer import RadTraining


class RadTrainerAsync(plain_class(ppo_trainer_async, "PPOTrainerAsync")):  # type: ignore[misc]
    """OpenRLHF's asynchronous controller; an exception in either of its loops ends the run at once.

    Args:
        options: RAD's options; the rest are the arguments of OpenRLHF's controller.
    """

    def __init__(self, options: RadOptions, *args: Any, **generate_kwargs: Any) -> None:
        register(ppo_trainer_async, "GenerateSamplesActor", RadGenerator, here=True)
        register(ppo_trainer_async, "TrainingActor", RadTrainingActor, options, generate_kwargs, here=True)
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
