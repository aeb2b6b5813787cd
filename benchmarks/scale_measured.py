"""What RAD does in the controller for each rollout, timed and weighed part by part on this machine.

Each part calls what the trainer calls, on OpenRLHF's own experiences of random tokens. ``python
benchmarks/scale_measured.py 1000`` measures one batch size in a process of its own and prints JSON;
``benchmarks/scale.py`` does so for several.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import pickle
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from openrlhf_rad.plugin import cpu
    from openrlhf_rad.processor import has_gpu

    if not has_gpu():
        cpu.activate()
    import torch
    from openrlhf.trainer.ppo_utils.experience import Experience
    from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
    from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController

from openrlhf_rad.method.constraint import evaluate
from openrlhf_rad.method.constraint_set import ConstraintSet, Scored, SetResult
from openrlhf_rad.method.particles import empirical_quantiles
from openrlhf_rad.method.scores import score
from openrlhf_rad.method.uncertainty import violation_standard_error
from openrlhf_rad.plugin.arguments import LOGGED
from openrlhf_rad.plugin.costs.loading import tokens_of
from openrlhf_rad.plugin.costs.sources import FunctionCost, checked_costs
from openrlhf_rad.plugin.costs.texts import TEXTS, RatedText, rated_texts, to_columns
from openrlhf_rad.plugin.experience import RadExperienceMaker, attach_costs, scored
from openrlhf_rad.plugin.record import Answers, batch_metrics
from openrlhf_rad.profile import load_profile
from openrlhf_rad.runs.folder import RunFolder

#: A cost file as a user writes it, of the least work.
COST_FILE = "def cost_func(queries, prompts, labels):\n    return [float(len(query)) for query in queries]\n"
MICRO_BATCH, ANSWERS_A_PROMPT = 32, 8
#: Of a token, as in the computed table.
CHARACTERS = 4
#: Repeated at most so often, and not once so many seconds are spent.
REPEATS, SECONDS = 5, 4.0

Part = Callable[[], object]


def timed(part: Part) -> dict[str, float]:
    """Least CPU seconds of several calls; MiB that the first one needed at its peak beyond what was there.

    CPU seconds, of all threads, since other work on the machine does not lengthen them; one core does it all.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = _status("VmRSS")
    found: list[float] = []
    peak = 0.0
    while not found or (len(found) < REPEATS and sum(found) < SECONDS):
        begun = time.process_time()
        part()
        found.append(time.process_time() - begun)
        peak = peak or max(0.0, (_status("VmHWM") - before) / 2**10)
    return {"seconds": min(found), "mib": peak}


def _status(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def costs_of(size: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Skewed costs with a heavy tail: a normal one and, in one answer of ten, a log-normal one on top."""
    generator = np.random.default_rng(seed)
    harmful = generator.random(size) < 0.1
    return generator.normal(size=size) + harmful * generator.lognormal(0.5, 0.7, size)


def numeric_parts(size: int, reference: int) -> Iterator[tuple[str, Part]]:
    """What comes between costs and scores, and the whole of it, against so many reference costs."""
    profile = load_profile("medical")
    batches = [costs_of(size, seed) for seed in (1, 2)]
    reference_r = costs_of(reference, 0)
    cost_b, n = batches[0], size
    cluster_b = np.arange(size) // ANSWERS_A_PROMPT
    particle_n, reference_n = (
        empirical_quantiles(cost_b, n),
        empirical_quantiles(reference_r, n, repeats=True),
    )
    weight_n, form = profile.weights(n), profile.constraint.form
    level, margin = 0.2, 1.0
    transport = profile.transport

    def solve() -> Any:
        return evaluate(
            form, particle_n, reference_n, weight_n, level=level, margin=margin, transport=transport
        )

    solved = solve()
    yield (
        "quantiles and weights",
        lambda: (
            empirical_quantiles(cost_b, n),
            empirical_quantiles(reference_r, n, repeats=True),
            profile.weights(n),
        ),
    )
    yield "gaps and transport plan", solve
    sampled = profile.risk.sampled(n)
    yield "scores", lambda: score(cost_b, particle_n, solved, sampled)
    yield (
        "standard error of the violation",
        lambda: violation_standard_error(solved, cost_b, particle_n, sampled, cluster_b=cluster_b),
    )
    labels = [""] * size
    prompts = [f"prompt {place // ANSWERS_A_PROMPT}" for place in range(size)]
    constraints = ConstraintSet(profile, Scored({"cost": reference_r}, [""] * reference))
    turns = itertools.count()  # two batches in turn: the plan of the one is no start for itself
    yield (
        "all of it with the dual step",
        lambda: constraints(Scored({"cost": batches[next(turns) % 2]}, labels, prompts)),
    )


def experiences_of(size: int, prompt_tokens: int, answer_tokens: int, tokenizer: Any) -> list[Any]:
    """A rollout as it comes back from the models: micro-batches of random tokens, with rewards and KL."""
    generator = torch.Generator().manual_seed(0)
    special = set(tokenizer.all_special_ids)
    # Of the length that English has on average, four characters a token, if there are such.
    usual = [word for word in range(len(tokenizer)) if word not in special]
    words = torch.tensor([word for word in usual if len(tokenizer.decode([word])) == CHARACTERS] or usual)
    length = prompt_tokens + answer_tokens
    made = []
    for start in range(0, size, MICRO_BATCH):
        count = min(MICRO_BATCH, size - start)
        mask = torch.zeros(count, length - 1, dtype=torch.int64)
        mask[:, prompt_tokens - 1 :] = 1
        reward = torch.randn(count, generator=generator)
        sequences = words[torch.randint(len(words), (count, length), generator=generator)]
        prompt = tokenizer.decode(sequences[0, :prompt_tokens])
        places = range(start, start + count)
        made.append(
            Experience(
                sequences=sequences,
                attention_mask=torch.ones(count, length, dtype=torch.int64),
                action_mask=mask,
                action_log_probs=-torch.rand(count, length - 1, generator=generator),
                kl=torch.zeros(count, length - 1),
                rewards=reward,
                index=list(places),
                prompts=[f"{place // ANSWERS_A_PROMPT} {prompt}" for place in places],
                labels=["harmful" if place % 2 else "benign" for place in places],
                info={"reward": reward, "cost": torch.from_numpy(costs_of(count, start)).float()},
            )
        )
    return made


def rollout_parts(experiences: list[Any], tokenizer: Any, folder: Path) -> Iterator[tuple[str, Part]]:
    """What RAD does with OpenRLHF's experiences: costs in, advantages, the log."""
    costs = [float(cost) for experience in experiences for cost in experience.info["cost"].tolist()]
    prompts = [prompt for experience in experiences for prompt in experience.prompts]
    yield (
        "costs checked and attached",
        lambda: attach_costs(experiences, {"cost": checked_costs(costs, prompts, "a source")}),
    )
    yield "costs gathered from experiences", lambda: scored(experiences, ["cost"])
    yield from _advantages(experiences, tokenizer)
    file = folder / "cost.py"
    file.write_text(COST_FILE, encoding="utf-8")
    source = FunctionCost(str(file))

    def decode() -> list[list[RatedText]]:
        return [rated_texts(one, tokenizer) for one in experiences]

    texts = decode()
    sent = [[(text.answer, None, text.digest, text.refused) for text in held] for held in texts]
    pickled = pickle.dumps(sent, protocol=5)

    def to_rate() -> list[list[RatedText]]:
        for experience, held in zip(experiences, sent, strict=True):
            experience.info[TEXTS] = held
        return decode()

    yield "texts taken in from the engines", lambda: pickle.loads(pickled)
    yield "texts to rate", to_rate
    yield (
        "texts handed to the cost model's actors",
        lambda: pickle.dumps([to_columns(held) for held in texts], protocol=5),
    )
    yield "a cost file", lambda: source.finish(source.begin(texts))
    run = RunFolder.create(folder / "run")
    profile = load_profile("medical")
    answers = Answers.of(experiences, texts, ["cost"])

    def log(count: int | None) -> None:
        run.append_samples({"step": 1, **row} for row in answers.sample(count, 0))

    yield "answers as columns", lambda: Answers.of(experiences, texts, ["cost"])
    yield "watches' metrics of the answers", lambda: batch_metrics(profile, answers, experiences)
    yield "256 answers in samples.jsonl", lambda: log(LOGGED)
    yield "numbers of all in Parquet", lambda: run.write_step(1, answers.columns())
    yield "decoded in the controller", decode
    yield (
        "in a cost model's tokens, in the controller",
        lambda: [tokens_of(held, tokenizer) for held in texts],
    )
    yield "all answers in samples.jsonl", lambda: log(None)


def _advantages(experiences: list[Any], tokenizer: Any) -> Iterator[tuple[str, Part]]:
    """OpenRLHF's advantages, and the same with RAD's bonus: the second contains the first."""
    algo = SimpleNamespace(advantage=SimpleNamespace(estimator="rloo", gamma=1.0, lambd=1.0))
    reward = SimpleNamespace(
        clip_range=(-1e6, 1e6),
        overlong_buffer_len=None,
        overlong_penalty_factor=1.0,
        stop_properly_penalty_coef=None,
    )
    rollout = SimpleNamespace(n_samples_per_prompt=ANSWERS_A_PROMPT, max_new_tokens=1)
    args = SimpleNamespace(algo=algo, reward=reward, rollout=rollout)
    kls = [experience.kl for experience in experiences]

    def maker(kind: type) -> Any:
        return kind(None, None, None, None, FixedKLController(0.01), SimpleNamespace(args=args), tokenizer)

    def again() -> None:
        for experience, kl in zip(experiences, kls, strict=True):
            experience.kl, experience.rewards = kl, experience.info["reward"]

    plain, rad = maker(RemoteExperienceMaker), maker(RadExperienceMaker)
    none_b = np.zeros(sum(len(kl) for kl in kls))
    bonus = SetResult(none_b, none_b, {})
    yield "OpenRLHF's own advantages", lambda: (again(), plain.compute_advantages_and_returns(experiences))
    yield "the same with the bonus", lambda: (again(), rad._with_bonus(experiences, bonus))


def sizes_of(experiences: list[Any], tokenizer: Any, reference: int) -> dict[str, float]:
    """Bytes a sample to a cost model as Ray pickles them; bytes of RAD's part of a checkpoint."""
    chunk = {"texts": [to_columns(rated_texts(one, tokenizer)) for one in experiences]}
    samples = sum(len(experience.sequences) for experience in experiences)
    constraints = ConstraintSet(
        load_profile("medical"), Scored({"cost": costs_of(reference, 0)}, [""] * reference)
    )
    constraints(Scored({"cost": costs_of(samples, 1)}, [""] * samples))
    return {
        "chunk": len(pickle.dumps(chunk, protocol=5)) / samples,
        "state": len(pickle.dumps(constraints.state_dict(), protocol=5)),
    }


def measure(
    size: int, reference: int, prompt_tokens: int, answer_tokens: int, tokenizer: Any
) -> dict[str, Any]:
    """Every part at one batch size, against the usual reference and against one as large as the batch."""
    found: dict[str, Any] = {"usual": {}, "full": {}, "rollout": {}, "words": len(tokenizer)}
    for kind, count in (("usual", reference), ("full", max(size, reference))):
        for name, part in numeric_parts(size, count):
            found[kind][name] = timed(part)
    experiences = experiences_of(size, prompt_tokens, answer_tokens, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        for name, part in rollout_parts(experiences, tokenizer, Path(folder)):
            found["rollout"][name] = timed(part)
        with open(Path(folder) / "run" / "samples.jsonl", "rb") as file:
            lines = [len(line) for line in itertools.islice(file, size)]
        found["line"] = sum(lines) / len(lines)
        found["columns"] = (Path(folder) / "run" / "answers" / "step-000001.parquet").stat().st_size / size
    found["sizes"] = sizes_of(experiences[:32], tokenizer, reference)
    return found


def tokenizer_of(folder: str | None) -> Any:
    """The tokenizer in a folder, or the tiny preset's, which knows a few dozen words."""
    if folder is None:
        from openrlhf_rad.jobs.tiny import build_tokenizer  # noqa: PLC0415

        return build_tokenizer()
    from transformers import AutoTokenizer  # noqa: PLC0415

    return AutoTokenizer.from_pretrained(folder)


def main() -> None:
    """Measure one size and print JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("size", type=int)
    options.add_argument("--reference", type=int, default=256)
    options.add_argument("--prompt-tokens", type=int, default=16)
    options.add_argument("--answer-tokens", type=int, default=32)
    options.add_argument("--tokenizer")
    given = options.parse_args()
    torch.set_num_threads(1)
    tokens = given.prompt_tokens, given.answer_tokens
    print(json.dumps(measure(given.size, given.reference, *tokens, tokenizer_of(given.tokenizer))))


if __name__ == "__main__":
    main()
