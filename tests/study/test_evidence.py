"""docs/evidence.md is what its data say: three figures by numpy alone on the Parquet, all by its builder."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from scipy import stats

ROOT = Path(__file__).parents[2]
DATA = ROOT / "studies" / "data" / "exact"
PAGE = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
WORLDS = {
    name: re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE, re.DOTALL)[1]
    for name in ("exact", "small", "real")
}


@pytest.fixture(scope="module")
def read():
    """The columns of a table of the exact study."""
    return {
        name: parquet.read_table(DATA / f"{name}.parquet").to_pandas()
        for name in ("worlds", "prompts", "policies")
    }


@pytest.fixture(scope="module")
def policy(read):
    """(model, seed) → probabilities, costs and rewards of all held-out answers, shape (P, A) each."""

    def of(model, seed):
        worlds, prompts, policies = (
            table[table.seed == seed] for table in (read["worlds"], read["prompts"], read["policies"])
        )
        worlds, prompts = (table[table["set"] == "held-out"] for table in (worlds, prompts))
        feature = prompts.sort_values("prompt")[["x0", "x1", "x2", "x3"]].to_numpy(float)
        start, cost, reward = (
            worlds[name].to_numpy(float).reshape(len(feature), -1) for name in ("start", "cost", "reward")
        )
        (weights,) = policies[policies.model == model].weights
        power = np.exp(start + feature @ np.asarray(weights, float).reshape(4, -1))
        return power / power.sum(axis=1, keepdims=True), cost, reward

    return of


def worst_tenth(mass, cost):
    """CVaR 0.9: the mean cost of the most costly 10 % of the probability."""
    order = np.argsort(-cost, axis=None)
    share = mass.ravel()[order] / len(mass)
    taken = np.clip(0.1 - (np.cumsum(share) - share), 0, share)
    return taken @ cost.ravel()[order] / 0.1


def row(title, first, world="exact"):
    """The cells of a row of the page's table whose title begins so."""
    table = WORLDS[world].split(f"**{title}", 1)[1].split("\n\n**", 1)[0]
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def numbers(cell):
    return [float(text) for text in re.findall(r"-?\d[\d.e-]*", cell.replace("−", "-"))]


def test_the_worst_tenth_of_a_model(policy):
    found = np.mean([worst_tenth(*policy("medical", seed)[:2]) for seed in range(20)])
    assert numbers(row("Models, held-out", "medical")[5])[0] == pytest.approx(found, rel=5e-3)


def test_the_difference_that_decides_h2_and_its_interval(policy):
    found_s = [
        worst_tenth(*policy("wang", seed)[:2]) - worst_tenth(*policy("safe-rlhf", seed)[:2])
        for seed in range(20)
    ]
    low, high = stats.t.interval(0.95, 19, np.mean(found_s), stats.sem(found_s))
    cell = row("H2: ", "wang")[1]
    assert numbers(cell) == pytest.approx([np.mean(found_s), low, high], rel=5e-3)


def test_how_often_the_variants_reward_is_higher(policy):
    found = []
    for seed in range(20):
        (one, _, reward), (other, _, _) = policy("safe-rlhf", seed), policy("cvar", seed)
        higher = reward[:, None, :] > reward[:, :, None]
        found.append((one[:, :, None] * other[:, None, :] * higher).sum() / len(one))
    cell = row("Figure 1, held-out", "safe-rlhf vs cvar")[-1]
    assert numbers(cell)[0] == pytest.approx(100 * np.mean(found), abs=0.51)


@pytest.mark.parametrize(("world", "seeds"), [("small", 5), ("real", 3)])
@pytest.mark.parametrize(
    ("measure", "title", "place"),
    [("cost", "Models, held-out", 5), ("independent", "By the independent cost, held-out", 2)],
)
def test_the_worst_tenth_of_sampled_answers(world, seeds, measure, title, place):
    table = parquet.read_table(ROOT / "studies" / "data" / world / "answers.parquet").to_pandas()
    mine = table[(table.model == "medical") & (table["set"] == "held-out")]
    tails = []
    for _, run in mine.groupby("seed"):
        cost = run[measure].to_numpy(float)
        tails.append(worst_tenth(np.full((len(cost), 1), 1.0), cost[:, None]))
    assert len(tails) == seeds
    assert numbers(row(title, "medical", world)[place])[0] == pytest.approx(np.mean(tails), rel=5e-3)


def test_the_page_is_what_its_data_say():
    words = [sys.executable, "benchmarks/evidence.py", "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
