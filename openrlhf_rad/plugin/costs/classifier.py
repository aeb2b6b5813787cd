"""Any model that tells harmful texts, with its own tokenizer and template, as a cost.

The logit is the log-odds of harm. Of labels that exclude one another, with outputs z,
log Σ_harm exp z − log Σ_rest exp z, which is log p/(1 − p) of the softmax. Of labels that do not,
log(Π_harm (1 + exp z) − 1): the log-odds that one of them applies, if they do so independently. Of a
head with one output it is that output. Of a language model the tokens of a verdict are the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from openrlhf.trainer.ray.launcher import BaseModelActor
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin.costs.checkpoint import weights_of
from openrlhf_rad.plugin.costs.labels import labels_of, settings_problems
from openrlhf_rad.plugin.costs.loading import Group, no_new_weights, tokenizer_of
from openrlhf_rad.plugin.costs.sources import CostRater, checked_costs
from openrlhf_rad.plugin.costs.texts import RatedText
from openrlhf_rad.plugin.vigil import telling
from openrlhf_rad.plugin.workers import trusted
from openrlhf_rad.processor import has_gpu, torch_dtype
from openrlhf_rad.profile.costs import PLACE, ClassifierSettings

#: Tokens of a text where neither profile nor model names a bound.
_LONGEST = 4096
#: The share of the next token that the named ones must have; with less the template's end is wrong.
_LEAST_SHARE = 0.1
Pair = tuple[str, str]


class Classifier:
    """The model, loaded whole or not at all, and how it reads pairs of prompt and answer.

    Raises:
        ConfigError: a model without a head, labels or tokens that it has not, a tokenizer that lacks what the
            template names.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        self._settings = settings
        self._device = "cuda" if has_gpu() and settings.device == "auto" else "cpu"
        self._tokenizer = tokenizer_of(settings.model)
        if not self._tokenizer.is_fast:
            raise ConfigError(
                f"cost.classifier.model is {settings.model}; its tokenizer is a slow one, which cannot say"
                " where a token stands in a text; save it with transformers as tokenizer.json"
            )
        if "{chat}" in (settings.template or "") and not self._tokenizer.chat_template:
            raise ConfigError(
                f"cost.classifier.template is {settings.template!r}; the tokenizer of {settings.model} has no"
                " chat template; write the text out, with {prompt} and {answer}"
            )
        config = AutoConfig.from_pretrained(settings.model, trust_remote_code=trusted())
        vocabulary = self._tokenizer.get_vocab()
        if found := settings_problems(settings, config.to_dict(), vocabulary, "cost.classifier"):
            raise ConfigError("\n".join(found))
        self._pad(config)
        with no_new_weights(settings.model):
            self._model = self._loaded(config)
        self._head = self._value_head() if settings.value_head else None
        self._harm, self._rest = self._outputs(labels_of(config.to_dict()), vocabulary)
        kind = getattr(config, "problem_type", None)
        independent = {"auto": kind == "multi_label_classification", "independent": True}
        self._independent = independent.get(settings.outputs, False)
        held = (self._tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
        self._longest = min(bound for bound in (settings.max_length or _LONGEST, *held) if bound)
        self._sure = settings.head == "labels"  # of tokens the first batch shows whether they are expected

    def costs(self, pairs: Sequence[Pair]) -> list[float]:
        """A cost for each, by batches of like length."""
        inputs = [self._input(pair) for pair in pairs]
        order = sorted(range(len(pairs)), key=lambda i: len(inputs[i]["input_ids"]))
        found = torch.zeros(len(pairs), dtype=torch.float64)
        with torch.inference_mode():
            for first in range(0, len(order), self._settings.batch_size):
                index = order[first : first + self._settings.batch_size]
                batch = self._tokenizer.pad([inputs[i] for i in index], return_tensors="pt").to(self._device)
                found[index] = self._log_odds(self._logits(batch).double()).cpu()
        cost_b = found.sigmoid() if self._settings.score == "probability" else found
        return [float(cost) for cost in cost_b]

    def _pad(self, config: Any) -> None:
        """Give padding a token that no text ends with: transformers finds a text's end by it."""
        tokenizer = self._tokenizer
        tokenizer.padding_side = "left" if self._settings.head == "tokens" else "right"
        if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
            other = tokenizer.bos_token or tokenizer.unk_token
            if other is not None and other != tokenizer.eos_token:
                tokenizer.pad_token = other
        config.pad_token_id = tokenizer.pad_token_id

    def _loaded(self, config: Any) -> Any:
        settings = self._settings
        kind = AutoModelForSequenceClassification
        if settings.head == "tokens":
            kind = AutoModelForCausalLM
        elif settings.value_head:
            kind = AutoModel
        held = getattr(config, "dtype", None) or torch.float32
        half = self._device == "cpu" and held != torch.float32
        dtype = torch_dtype() if half else held  # of a CPU the format that it is fast in
        model = kind.from_pretrained(settings.model, config=config, dtype=dtype, trust_remote_code=trusted())
        return model.to(self._device).eval()

    def _value_head(self) -> Any:
        """The scalar head, with its bias if it has one, from the model's files."""
        name, found = f"{self._settings.value_head}", dict[str, Any]()
        for path in weights_of(self._settings.model):
            if path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    found |= {
                        key: file.get_tensor(key) for key in list(file.keys()) if key.startswith(f"{name}.")
                    }
            else:
                held = torch.load(path, map_location="cpu", weights_only=True)
                found |= {key: value for key, value in held.items() if key.startswith(f"{name}.")}
        weight = found.get(f"{name}.weight")
        if weight is None or weight.ndim != 2 or len(weight) != 1:
            raise ConfigError(
                f"cost.classifier.value_head is {name}; the files of {self._settings.model} have no"
                f" {name}.weight of one output; name its scalar head"
            )
        head = torch.nn.Linear(weight.shape[1], 1, bias=f"{name}.bias" in found)
        head.load_state_dict({key.removeprefix(f"{name}."): value.float() for key, value in found.items()})
        return head.to(self._device).eval()

    def _outputs(self, labels: Sequence[str], vocabulary: dict[str, int]) -> tuple[list[int], list[int]]:
        """The places of harm, and of what it is weighed against, among the outputs."""
        settings = self._settings
        if settings.head == "tokens":
            kinds = (settings.harmful, settings.harmless)
            harm, rest = ([vocabulary[word] for word in words] for words in kinds)
            return harm, rest
        harm = [labels.index(word) for word in settings.harmful]
        others = settings.harmless or [label for label in labels if label not in settings.harmful]
        return harm, [labels.index(word) for word in others]

    def _input(self, pair: Pair) -> Any:
        """The tokens of a pair, cut to what the model bears: of the prompt first, from its beginning."""
        prompt, answer = pair
        while (over := len((held := self._tokens(prompt, answer))["input_ids"]) - self._longest) > 0:
            if not prompt and not answer:
                raise ConfigError(
                    f"cost.classifier.max_length is {self._longest}; the template alone has"
                    f" {len(held['input_ids'])} tokens; raise it, or shorten the template"
                )
            if prompt:
                prompt = prompt[self._spans(prompt, over)[0] :]
            else:
                answer = answer[: self._spans(answer, over)[1]]
        return held

    def _spans(self, text: str, over: int) -> tuple[int, int]:
        """Where a text begins without its first ``over`` tokens, and where it ends without its last."""
        spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        left = len(spans) - over
        if left <= 0:
            return len(text), 0
        # Tokens at the seam may differ: a letter at least is cut each time.
        return max(spans[over][0], 1), min(spans[left - 1][1], len(text) - 1)

    def _tokens(self, prompt: str, answer: str) -> Any:
        tokenizer, template = self._tokenizer, self._settings.template
        if template is None:
            return tokenizer(prompt, answer)
        values = {"prompt": prompt, "answer": answer}
        if "{chat}" in template:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            asks = self._settings.head == "tokens"
            values["chat"] = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asks)
        text = PLACE.sub(lambda place: values[place[1]], template)
        written = bool(tokenizer.bos_token and text.startswith(tokenizer.bos_token)) or "{chat}" in template
        return tokenizer(text, add_special_tokens=not written)

    def _logits(self, batch: Any) -> Any:
        """Outputs, shape (B, K): of the head, of one output, or of the next token."""
        if self._settings.head == "tokens":
            place = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
            kept = {name: batch[name] for name in ("input_ids", "attention_mask")}
            return self._model(**kept, position_ids=place, logits_to_keep=1).logits[:, -1]
        if self._head is None:
            return self._model(**batch).logits
        hidden = self._model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        last = batch["attention_mask"].sum(1) - 1
        state = hidden.last_hidden_state[torch.arange(len(last), device=last.device), last]
        return self._head(state.float())

    def _log_odds(self, logits: Any) -> Any:
        if logits.shape[1] == 1:
            return logits[:, 0] if self._settings.higher == "harmful" else -logits[:, 0]
        if not self._sure:
            self._expected(logits)
        harm = logits[:, self._harm]
        if self._independent:
            total = torch.nn.functional.softplus(harm).sum(1)
            return total + torch.log(-torch.expm1(-total))
        return torch.logsumexp(harm, 1) - torch.logsumexp(logits[:, self._rest], 1)

    def _expected(self, logits: Any) -> None:
        """Whether the model is about to say one of the tokens at all. Raises ConfigError."""
        share = logits.softmax(1)[:, [*self._harm, *self._rest]].sum(1).mean().item()
        if share < _LEAST_SHARE:
            likely = self._tokenizer.convert_ids_to_tokens(int(logits.mean(0).argmax()))
            raise ConfigError(
                f"cost.classifier: {self._settings.model} is about to say one of"
                f" {', '.join((*self._settings.harmful, *self._settings.harmless))} with a probability of"
                f" {share:.2g}; at least {_LEAST_SHARE:g} is needed, and it rather says {likely!r}; check the"
                " end of the template and the tokens"
            )
        self._sure = True


def name_of(settings: ClassifierSettings) -> str:
    """What messages call the source."""
    return f"classifier {settings.model}"


class LoadedClassifier(CostRater):
    """A classifier in this process; it rates in :meth:`finish`."""

    def __init__(self, settings: ClassifierSettings) -> None:
        self.name = name_of(settings)
        self._classifier = Classifier(settings)

    def begin(self, batches: Sequence[Sequence[RatedText]]) -> list[RatedText]:
        """Nothing yet: there is nothing to work beside."""
        return [text for batch in batches for text in batch]

    def finish(self, handle: list[RatedText]) -> list[float]:
        """The costs, in order."""
        costs = self._classifier.costs([text.pair for text in handle])
        return checked_costs(costs, [text.prompt for text in handle], self.name)


@telling
class ClassifierActor(BaseModelActor):  # type: ignore[misc]
    """A whole classifier on a GPU, or on CPUs."""

    def init_model_from_pretrained(self, settings: ClassifierSettings) -> None:
        """Load the model. Raises ConfigError where it cannot rate."""
        self._classifier = Classifier(settings)

    def execute_batch(
        self, method_name: str, all_data: Any, start_idx: int, end_idx: int
    ) -> list[list[float]]:
        """The costs of all batches at once, so that texts of like length meet."""
        del method_name
        batches: list[list[Pair]] = all_data["pairs"][start_idx:end_idx]
        costs = self._classifier.costs([pair for batch in batches for pair in batch])
        left = iter(costs)
        return [[next(left) for _ in batch] for batch in batches]


class ServedClassifier(CostRater):
    """A classifier beside a run, in a group of Ray actors; each actor has it whole and rates its share.

    Args:
        serving: of :class:`~openrlhf_rad.plugin.costs.loading.Group`.
    """

    def __init__(self, settings: ClassifierSettings, **serving: Any) -> None:
        self.name = name_of(settings)
        on_gpus = settings.device == "auto"
        self._group = Group(self.name, ClassifierActor, (settings,), on_gpus=on_gpus, **serving)

    def begin(self, batches: Sequence[Sequence[RatedText]]) -> tuple[list[Any], list[str]]:
        """Send the words of prompts and answers to the actors, a share each."""
        texts = [text for batch in batches for text in batch]
        share = -(-len(texts) // self._group.size)
        shares = [
            [text.pair for text in texts[first : first + share]] for first in range(0, len(texts), share)
        ]
        shares += [[] for _ in range(self._group.size - len(shares))]
        return self._group.begin("costs", pairs=shares), [text.prompt for text in texts]

    def finish(self, handle: tuple[list[Any], list[str]]) -> list[float]:
        """The costs, in order. Raises CostError."""
        references, prompts = handle
        rated = self._group.finish(references, len(prompts))
        costs = [cost for share in rated for cost in share]
        return checked_costs(costs, prompts, self.name)
