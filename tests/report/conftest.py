"""Run folders with simulated numbers, written by the product's own code."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from openrlhf_rad.evaluation.gate import GateVerdict, Outcome, Ruling
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.report import write_report
from openrlhf_rad.runs import RunFolder, summarise
from openrlhf_rad.runs.folder import Reference

HOSTILE = [
    "<script>alert('answer')</script>",
    "</div></details><img src=x onerror=alert(1)>",
    '" onmouseover="alert(2)" x="',
    "</style><style>body{background:url(http://evil.example/x)}</style>",
    "<!-- {{ 7 * 7 }} {% raw %} -->",
    "\x1b[31mred\x00\x07 \u202eright to left\u2066 &lt;b&gt; \ud800",
    "<a href=\"javascript:alert(3)\">here</a> <iframe src='http://evil.example'></iframe>",
    "z" * 5000,
]
SECRETS = ("sUpErSeCrEt", "hf_abcdefghijklmnop", "pw-of-bob")


def command(seed: int) -> str:
    return (
        "python -m openrlhf_rad --rad.profile p.yaml --rad.heldout h.jsonl --data.input_key input"
        f" --logger.wandb.key {SECRETS[0]} --rollout.max_new_tokens 24 --train.seed {seed}"
        f" --reward.remote_url https://bob:{SECRETS[2]}@reward.example/score?token={SECRETS[0]}&n=1"
        f" --hub {SECRETS[1]}"
    )


def answers(rng: np.random.Generator, cost_b: np.ndarray, texts: list[str]) -> list[dict[str, object]]:
    return [
        {
            "prompt": f"<|im_start|>user\nprompt {i} {texts[i % 8]}<|im_end|>\n",
            "answer": f"{texts[(i + 3) % 8]} answer {i}",
            "label": f"{texts[i % 2]}{i % 2}",
            "reward": float(rng.normal()),
            "cost": float(cost),
        }
        for i, cost in enumerate(cost_b)
    ]


def runs_in(folder: Path) -> Callable[..., RunFolder]:
    """A function (name, profile, seed, steps, until, texts) → a simulated run.

    until: "training" has no held-out answers yet, "answers" has no summary, "end" is finished.
    """

    def make(
        name: str = "simulated",
        *,
        profile: str = "medical: cvar α=0.9",
        seed: int = 1,
        steps: int = 12,
        until: str = "end",
        texts: list[str] = HOSTILE,
    ) -> RunFolder:
        rng = np.random.default_rng(seed)
        run = RunFolder.create(folder / name)
        run.write_profile(RiskProfile.from_text(profile))
        run.write_command(command(seed))
        before = rng.gamma(2, 1, 400)
        run.write_reference(Reference({"cost": rng.gamma(2, 1, 100)}, np.zeros(100), ["p"] * 100, [""] * 100))
        for step in range(1, steps + 1):
            value = 0.1 * step - 0.5 + 0.05 * rng.normal()
            run.append_metrics(
                {
                    "step": step,
                    "lambda": 1 + step / 10,
                    "lambda_next": 1.1 + step / 10,
                    "constraint_value": value,
                    "constraint_level": 0.2,
                    "violation": 0.2 - value,
                    "risk": None if step == 3 else 2 - value,
                    "reference_risk": 2.0,
                    "reward_mean": 0.4 + 0.01 * step,
                    "kl": 0.02 * step,
                    "response_length": 20.0,
                    "seconds_step": 10.5,
                }
            )
            rows = answers(rng, rng.gamma(2, 1, 16), texts)
            run.append_samples([row | {"step": step} for row in rows])
        if until != "training":
            run.write_answers("before", answers(rng, before, texts))
            after = rng.uniform(0.4, 0.8) * rng.permutation(before)
            run.write_answers("after", answers(rng, after, texts))
        if until == "end":
            summarise(run, lambda prompts, answers: np.arange(float(len(answers))))
        return run

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """See runs_in; a run of this test alone."""
    return runs_in(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run with its page, for tests that only look."""
    run = runs_in(tmp_path_factory.mktemp("runs"))()
    write_report([run.path])
    return run


#: A rule that passes, but for its segment.
RULING = ("risk", "cvar α=0.9", Outcome.PASS, -0.1, 0.95, 60, -0.5, -0.9, -0.2, 0, "")


def estimate(value: float, half: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def simulated_evaluation(text: str, count: int = 60) -> dict[str, object]:
    """An eval.json of the shape in docs/evaluation.md with simulated numbers; text stands in every text."""
    rng = np.random.default_rng(0)
    levels = [round(0.05 * step, 2) for step in range(1, 20)]
    cost = {"baseline": np.sort(rng.gamma(2, 1, count)), "candidate": np.sort(0.6 * rng.gamma(2, 1, count))}
    names = {"baseline": f"base {text}", "candidate": f"tuned {text}"}
    models = [
        {
            "name": names[role],
            "role": role,
            "source": f"models/{role} {text}",
            "read": {
                "file": f"models/{role} {text}",
                "sha256": "ab" * 32,
                "rows": count,
                "columns": {"prompt": "prompt", "cost": f"− {text}"},
            },
            "answers": count,
            "safe": estimate(float((cost[role] <= 1).mean())),
            "mean": estimate(float(cost[role].mean())),
            "risk": estimate(float(cost[role][-6:].mean())),
            "reward": None,
            "ratings": None,
            "refusals": None,
            "quantiles": {
                "level": levels,
                "cost": np.quantile(cost[role], levels).tolist(),
                "low": [None, *(np.quantile(cost[role], levels) - 0.2).tolist()[1:]],
                "high": [*(np.quantile(cost[role], levels) + 0.2).tolist()[:-1], None],
            },
        }
        for role in ("baseline", "candidate")
    ]
    change = np.quantile(cost["candidate"], levels) - np.quantile(cost["baseline"], levels)
    risk = float(cost["baseline"][-6:].mean() - cost["candidate"][-6:].mean())
    won = {"win": 0.5, "tie": 0.2, "lose": 0.3}
    side = {"safe": estimate(0.5), "count": count, "safe_count": count // 2}
    cells = ["safe,safe", "safe,unsafe", "unsafe,safe", "unsafe,unsafe", "overall"]
    wins = [
        {
            "cell": cell,
            "baseline_safe": None,
            "candidate_safe": None,
            "wins": 3 * place,
            "ties": 1,
            "count": 5 * place,
            "rate": 0.6 if place else None,
        }
        for place, cell in enumerate(cells)
    ]
    data = {
        "schema": "openrlhf_rad.eval/4",
        "created": "2026-11-24T02:00:00Z",
        "command": f"rad eval --api-key {SECRETS[0]} '{text}'",
        "profile": {"name": "medical", "hash": "0" * 64, "risk": "cvar α=0.9", "formula": "φ(t) = …"},
        "settings": {"threshold": 1.0, "confidence": 0.95, "resamples": 2000, "seed": 0},
        "data": {"prompts": count, "answers": count, "answers_per_prompt": [1, 1], "segments": []},
        "models": models,
        "comparisons": [
            {
                **names,
                "gate": GateVerdict(*names.values(), [Ruling(*RULING, text)]).data(),
                "worse": None,
                "saturated": None,
                "safety": {
                    "reward_higher": side,
                    "reward_lower": None,
                    "candidate": side,
                    "baseline": side,
                    "ties": 1,
                },
                "dominance": {"weighted": estimate(risk), "unweighted": estimate(0.4)},
                "reward_wins": wins,
                "gaps": {
                    kind: {"below": estimate(0.7), "above": estimate(0.05)}
                    for kind in ("weighted", "unweighted")
                },
                "improvement": {
                    "safe": estimate(0.2),
                    "mean": estimate(0.5),
                    "risk": estimate(risk),
                    "reward": None,
                },
                "quantile_difference": {
                    "level": levels,
                    "value": change.tolist(),
                    "low": (change - 0.3).tolist(),
                    "high": (change + 0.3).tolist(),
                },
                "tests": [{"name": text, "null": text, "statistic": 1.5, "p": 0.03, "levels": None}],
                "segments": [
                    {
                        "name": text,
                        "prompts": 9,
                        "answers": 9,
                        "safe_baseline": estimate(0.3),
                        "safe_candidate": estimate(0.6),
                        "improvement_mean": estimate(0.2),
                        "improvement_risk": None,
                        "improvement_reward": None,
                    }
                ],
                "judge": {
                    "overall": {"win": estimate(0.5), "tie": estimate(0.2), "lose": estimate(0.3)},
                    "seeds": [
                        {"seed": seed, "pairs": 30, **{name: {"share": share} for name, share in won.items()}}
                        for seed in (1, 2)
                    ],
                    "model": f"judge {text}",
                    "malformed": {"count": 3, "calls": 120, "limit": 0.05},
                },
            }
        ],
        "worst": [
            {
                "model": names["baseline"],
                "constraint": text,
                "prompt": text,
                "answer": text,
                "cost": 9.87,
                "reward": None,
                "segment": text,
            }
        ],
        "warnings": [text],
        "sign": [],
        "methods": {"risk": text},
        "versions": {"numpy": text},
    }
    with_constraints(data, [text])
    return data


def with_constraints(data: dict[str, object], names: list[str]) -> None:
    """Constraints that all have the numbers of the first one's cost."""
    data["constraints"] = [
        {
            "name": name,
            "risk": data["profile"]["risk"],
            "formula": "φ(t) = …",
            "cost": name,
            "segment": None,
            "prompts": data["data"]["prompts"],
            "answers": data["data"]["answers"],
        }
        for name in names
    ]
    of_model = ("safe", "mean", "risk", "quantiles", "ratings")
    of_pair = ("saturated", "dominance", "gaps", "improvement", "quantile_difference", "tests")
    for rows, keys in ((data["models"], of_model), (data["comparisons"], of_pair)):
        for row in rows:
            row["constraints"] = [{"name": name, **{key: row[key] for key in keys}} for name in names]


@pytest.fixture
def evaluation(tmp_path: Path) -> Callable[..., Path]:
    """evaluation(text, **changed keys) → the folder of a simulated evaluation."""

    def make(
        text: str = "plain", name: str = "eval", several: list[str] | None = None, **changed: object
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        data = simulated_evaluation(text) | changed
        if several:
            with_constraints(data, several)
        (folder / "eval.json").write_text(json.dumps(data), encoding="utf-8")
        return folder

    return make


class Page(HTMLParser):
    """A page as its elements: (tag, attributes) in order, ids, and the text by tag; elements must nest."""

    EMPTY = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = source
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every element with the names of its attributes."""
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]

    def text(self, *within: str) -> str:
        """The text inside elements of these tags, or all that is seen."""
        hidden = {"style", "title", "desc"} - set(within)
        return "".join(
            data for tags, data in self.texts if set(within) <= set(tags) and not hidden & set(tags)
        )


@pytest.fixture
def parse() -> type[Page]:
    return Page


@pytest.fixture
def secrets() -> tuple[str, ...]:
    return SECRETS
