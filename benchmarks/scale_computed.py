"""What RAD adds at sizes that are not at hand: arithmetic with named inputs. Every number here is computed.

The rollout is taken at its shortest, arithmetic alone at the given utilisation: no waiting, no padding, no
transfer of weights, and generation as fast as a forward pass. Real ones are longer, shares of them smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

GIB = 2**30
#: A cost comes back as a float32 and is held as a float64.
BYTES_PER_COST, BYTES_HELD = 4, 8
#: OpenRLHF's rollout: ids and two masks as int64; log-probabilities, KL, advantages and returns as float32.
BYTES_ROLLOUT = 40
#: Beside its prompt's text: cost, reward, label and two potentials of a reference answer in a checkpoint.
BYTES_REFERENCE = 48
#: Names, numbers and quotes of a line of samples.jsonl beside its two texts.
BYTES_PER_LINE = 120
#: Answers a step whose texts samples.jsonl keeps, ``--rad.log_answers``.
LOGGED = 256
#: An answer's numbers in Parquet: prompt, reward, cost, tokens; labels and the rest are dictionaries.
BYTES_COLUMNS = 26


@dataclass(frozen=True)
class Setting:
    """The inputs; each is a flag of ``benchmarks/scale.py``.

    Attributes:
        gpus: in the cluster; all models share them, as with ``--train.colocate_all``.
        samples_per_gpu: answers of a rollout for each GPU.
        prompt_tokens, answer_tokens: of a sample.
        characters: of a token, each a byte.
        policy, reward, cost: parameters.
        flops: peak of a GPU. utilisation: the share of it that is reached.
        reference_samples: the profile's ``reference.samples``.
        network: bytes a second out of the controller's node. gpus_per_node: on each node.
        passes: over a rollout in training.
    """

    gpus: int = 8
    samples_per_gpu: int = 128
    prompt_tokens: int = 256
    answer_tokens: int = 768
    characters: float = 4.0
    policy: float = 8e9
    reward: float = 8e9
    cost: float = 8e9
    flops: float = 989e12
    utilisation: float = 0.4
    reference_samples: int = 256
    network: float = 50e9
    gpus_per_node: int = 8
    passes: int = 1

    @property
    def samples(self) -> int:
        """B, the answers of a rollout."""
        return self.gpus * self.samples_per_gpu

    @property
    def tokens(self) -> int:
        """L, the tokens of a sample."""
        return self.prompt_tokens + self.answer_tokens


def cost_flops(given: Setting) -> float:
    """2·N_c·L·B: one forward pass of the cost model over each sample; attention's square is left out."""
    return 2 * given.cost * given.tokens * given.samples


def rollout_flops(given: Setting) -> float:
    """(2N + 2N + 2N + 2N_r + 6N·E)·L·B: generation, log-probabilities, reference, reward, E passes."""
    forward = 3 * 2 * given.policy + 2 * given.reward
    return (forward + 6 * given.policy * given.passes) * given.tokens * given.samples


def seconds(flops: float, given: Setting) -> float:
    """flops/(G · peak · utilisation)."""
    return flops / (given.gpus * given.flops * given.utilisation)


def answer_bytes(given: Setting) -> float:
    """c·A·B: the answers' texts, which the engines decode and hand over beside OpenRLHF's token ids."""
    return given.characters * given.answer_tokens * given.samples


def texts_bytes(given: Setting) -> float:
    """c·L·B: prompts and answers, put into Ray's object store for the cost model's actors."""
    return given.characters * given.tokens * given.samples


def leaving_bytes(given: Setting) -> float:
    """c·L·B·(1 − g/G): the part for actors on other nodes than the controller's, which has g of G GPUs."""
    return texts_bytes(given) * max(0.0, 1 - given.gpus_per_node / given.gpus)


def request_bytes(given: Setting) -> float:
    """c·(2P + A)·B: prompt + answer, and the prompt again, for a cost file or server instead of a model."""
    return given.characters * (2 * given.prompt_tokens + given.answer_tokens) * given.samples


def log_bytes(given: Setting) -> float:
    """(c·L + 120)·min(B, 256): the lines of samples.jsonl."""
    return (given.characters * given.tokens + BYTES_PER_LINE) * min(given.samples, LOGGED)


def column_bytes(given: Setting) -> float:
    """26·B: the numbers of all answers, in Parquet."""
    return BYTES_COLUMNS * given.samples


def rollout_bytes(given: Setting) -> float:
    """40·L·B: OpenRLHF's own rollout, which its one controller holds."""
    return BYTES_ROLLOUT * given.tokens * given.samples


def state_bytes(given: Setting) -> float:
    """(c·P + 48)·R·G: RAD's state, which OpenRLHF hands to every actor with each checkpoint."""
    line = given.characters * given.prompt_tokens + BYTES_REFERENCE
    return line * given.reference_samples * given.gpus


def model_bytes(given: Setting) -> float:
    """2·N_c: the cost model in bf16, whole on each of its GPUs; with ZeRO-3 divided by their number."""
    return 2 * given.cost


#: Row → its value with unit, of a setting. All computed.
ROWS: dict[str, Callable[[Setting], str]] = {
    "samples of a rollout, B": lambda s: f"{s.samples:,}",
    "rollout at its shortest": lambda s: duration(seconds(rollout_flops(s), s)),
    "cost model's forward pass": lambda s: duration(seconds(cost_flops(s), s)),
    "its share of the rollout": lambda s: percent(cost_flops(s) / rollout_flops(s)),
    "cost model in a GPU's memory": lambda s: size(model_bytes(s)),
    "the same with ZeRO-3": lambda s: size(model_bytes(s) / s.gpus),
    "answers' texts from the engines": lambda s: size(answer_bytes(s)),
    "texts into Ray's object store": lambda s: size(texts_bytes(s)),
    "of them over the network": lambda s: size(leaving_bytes(s)),
    "time on the network": lambda s: duration(leaving_bytes(s) / s.network),
    "costs back to the controller": lambda s: size(BYTES_PER_COST * s.samples),
    "costs held, float64": lambda s: size(BYTES_HELD * s.samples),
    "requests to a cost server instead": lambda s: size(request_bytes(s)),
    "samples.jsonl, each step": lambda s: size(log_bytes(s)),
    "Parquet, each step": lambda s: size(column_bytes(s)),
    "RAD's state to all actors, each checkpoint": lambda s: size(state_bytes(s)),
    "beside it: OpenRLHF's rollout in the controller": lambda s: size(rollout_bytes(s)),
}


def table(given: Setting, gpus: list[int], more: Mapping[str, Callable[[Setting], str]] | None = None) -> str:
    """The rows for each number of GPUs, as Markdown."""
    settings = [replace(given, gpus=count) for count in gpus]
    lines = [
        "| computed | " + " | ".join(f"{one.gpus:,} GPUs" for one in settings) + " |",
        "|---" * (1 + len(settings)) + "|",
    ]
    for name, value in {**ROWS, **(more or {})}.items():
        lines.append(f"| {name} | " + " | ".join(value(one) for one in settings) + " |")
    return "\n".join(lines)


def duration(value: float) -> str:
    """Seconds with a unit that suits them, two digits."""
    for unit, scale in (("µs", 1e-6), ("ms", 1e-3)):
        if 0 < value < 999.5 * scale:
            return f"{_digits(value / scale)} {unit}"
    return f"{_digits(value)} s"


def size(value: float) -> str:
    """Bytes with a unit that suits them, two digits."""
    for unit, scale in (("KiB", 2**10), ("MiB", 2**20)):
        if value < 999.5 * scale:
            return f"{_digits(value / scale)} {unit}"
    return f"{_digits(value / GIB)} GiB"


def percent(value: float) -> str:
    """A share with two digits."""
    return f"{_digits(100 * value)} %"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 or value == 0 else f"{value:.2g}"
