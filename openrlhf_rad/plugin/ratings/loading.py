"""Rating models as they are loaded: whole, or not at all; and the texts that they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from openrlhf.trainer.ray import launcher
from transformers import AutoTokenizer, PreTrainedModel

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin import remote_code
from openrlhf_rad.plugin.failures import telling
from openrlhf_rad.plugin.registry import plain_class


@contextmanager
def no_new_weights(location: str, learnt: Sequence[str] = ()) -> Iterator[None]:
    """Let no model that is loaded meanwhile have a weight that its files have not.

    Args:
        learnt: prefixes of weights that may be new, for training learns them.

    Raises:
        ConfigError: naming the weights that transformers would fill with random numbers.
    """
    original = vars(PreTrainedModel)["from_pretrained"]

    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        model, info = original.__func__(cls, *args, **kwargs, output_loading_info=True)
        lacking = set(info["missing_keys"]) | {name for name, *_ in info["mismatched_keys"]}
        lacking = {name for name in lacking if not name.startswith(tuple(learnt))}
        bias = f"{getattr(model, 'value_head_prefix', None)}.bias"
        if lacking:
            shown = ", ".join(sorted(lacking)[:4]) + (", …" if len(lacking) > 4 else "")
            raise ConfigError(
                f"{location} has no {shown}, which would be random numbers; a model that rates must be whole;"
                " name a checkpoint that was trained to score answers, with its head"
            )
        if bias in info["unexpected_keys"]:
            raise ConfigError(
                f"{location} has {bias}, which OpenRLHF's head has not and would leave out; save the model"
                " without it, or rate by a Python file that loads it with its own class"
            )
        return model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained = original


@telling
class RewardActor(plain_class(launcher, "RewardModelActor")):  # type: ignore[misc]
    """OpenRLHF's actor of a reward model, whose weights are those of its files."""

    def init_model_from_pretrained(self, strategy: Any, pretrain: str) -> None:
        """Load the model. Raises ConfigError where its files lack a weight."""
        with no_new_weights(pretrain):
            super().init_model_from_pretrained(strategy, pretrain)


@telling
class CostActor(RewardActor):
    """The same for a cost model, whose costs stay in its own units."""

    def init_model_from_pretrained(self, strategy: Any, pretrain: str) -> None:
        """Load the model, without ``--reward.normalize_enable``, which is about rewards."""
        strategy.args.reward.normalize_enable = False
        super().init_model_from_pretrained(strategy, pretrain)


def tokenizer_of(location: str) -> Any:
    """A rating model's own tokenizer; it pads on the right. Raises ConfigError where there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=remote_code.trusted())
    except (OSError, ValueError) as cause:
        raise ConfigError(
            f"{location} has no tokenizer that loads ({type(cause).__name__}: {cause}); save it beside the"
            " weights"
        ) from cause
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokens_of(texts: Sequence[str], tokenizer: Any) -> Any:
    """``input_ids`` and ``attention_mask`` of texts, (B, T) each; their special tokens are written out."""
    return tokenizer(list(texts), add_special_tokens=False, padding=True, return_tensors="pt")
