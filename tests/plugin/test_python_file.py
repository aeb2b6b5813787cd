"""Cost and reward files as people write them load alike in training and in rad eval."""

import json
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

from openrlhf_rad.errors import CostError, RewardError
from openrlhf_rad.evaluation import work
from openrlhf_rad.evaluation.sources import Rating
from openrlhf_rad.plugin.costs.python_file import function_of, load
from openrlhf_rad.plugin.costs.sources import FunctionCost
from openrlhf_rad.plugin.costs.texts import rated_texts
from openrlhf_rad.plugin.rollout import Executor

#: What each costs the answers "harm help" and "help": 1.0 · harm − 0.2 · help.
FILES = {
    "a dataclass with postponed annotations": """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Rule:
            word: str
            cost: float

        RULES = [Rule("harm", 1.0), Rule("help", -0.2)]

        def cost_func(queries, prompts, labels):
            return [sum(rule.cost * query.count(rule.word) for rule in RULES) for query in queries]
        """,
    "processes that are forked": """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        def one(query):
            return query.count("harm") - 0.2 * query.count("help")

        def cost_func(queries, prompts, labels):
            with ProcessPoolExecutor(2, get_context("fork")) as pool:
                return list(pool.map(one, queries))
        """,
    "processes that are spawned": """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        def one(query):
            return query.count("harm") - 0.2 * query.count("help")

        def cost_func(queries, prompts, labels):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                return list(pool.map(one, queries))
        """,
    "a file beside it": """
        from rules_beside import RULES

        def cost_func(queries, prompts, labels):
            return [sum(cost * query.count(word) for word, cost in RULES) for query in queries]
        """,
    "one number a row": """
        import numpy as np

        def cost_func(queries, prompts, labels):
            return np.array([[query.count("harm") - 0.2 * query.count("help")] for query in queries])
        """,
    "a tensor of one column": """
        import torch

        def cost_func(queries, prompts, labels):
            return torch.tensor([[q.count("harm") - 0.2 * q.count("help")] for q in queries]).double()
        """,
    "a type that is pickled": """
        import pickle
        from enum import Enum
        from typing import NamedTuple

        class Rule(NamedTuple):
            word: str
            cost: float

        class Kind(Enum):
            HARM = Rule("harm", 1.0)
            HELP = Rule("help", -0.2)

        RULES = [kind.value for kind in pickle.loads(pickle.dumps(list(Kind)))]

        def cost_func(queries, prompts, labels):
            return [sum(rule.cost * query.count(rule.word) for rule in RULES) for query in queries]
        """,
}
ANSWERS, COSTS = [" harm-ba help-ba", " help-be"], [0.8, -0.2]


@pytest.fixture
def cost_file(tmp_path):
    def write(text, name="cost_as_written.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        (tmp_path / "rules_beside.py").write_text("RULES = [('harm', 1.0), ('help', -0.2)]\n")
        return path

    return write


@pytest.fixture
def samples(rollout, batches, tokenizer):
    made = batches([rollout("plain-ba", answer) for answer in ANSWERS], 2)
    return [rated_texts(batch, tokenizer) for batch in made]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_costs_the_same_in_training_and_in_rad_eval(kind, cost_file, samples, tmp_path):
    path = str(cost_file(FILES[kind], f"cost_{kind.replace(' ', '_')}.py"))
    source = FunctionCost(path)
    trained = source.finish(source.begin(samples))
    rows = [
        {"prompt": "plain-ba", "answer": answer, "label": None, "sent": True, "finished": True}
        for answer in ANSWERS
    ]
    request = work.score_request(Rating("cost", "function", path), None)
    evaluated = work.perform("x: cost", request, rows, tmp_path / "w", lambda *_: None)
    assert trained == pytest.approx(COSTS, abs=1e-6)
    assert [row["value"] for row in evaluated] == trained


COUNTING = """
import threading

calls = []

def cost_func(queries, prompts, labels):
    calls.append(threading.get_ident())
    return [len(calls) + 10 * (len(set(calls)) - 1) for _ in queries]
"""


def test_what_a_file_keeps_from_call_to_call_is_kept_in_both(cost_file, samples, tmp_path):
    """Here how often it was called; and all calls come from one thread."""
    path = str(cost_file(COUNTING, "cost_counting.py"))
    source = FunctionCost(path)
    trained = [source.finish(source.begin(samples)) for _ in range(3)]
    row = {"prompt": "plain-ba", "answer": "", "label": None, "sent": True, "finished": True}
    request = work.score_request(Rating("cost", "function", path), None)
    evaluated = work.perform(
        "x: cost", request, [row] * (2 * work.SHARD + 1), tmp_path / "w", lambda *_: None
    )
    assert trained == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    assert [row["value"] for row in evaluated] == [1.0] * work.SHARD + [2.0] * work.SHARD + [3.0]


def test_two_files_of_one_name_are_two(tmp_path):
    for value in ("a", "b"):
        (tmp_path / value).mkdir()
        (tmp_path / value / "cost_twin.py").write_text(
            f"from dataclasses import dataclass\n@dataclass\nclass C:\n    x: 'str' = {value!r}\n"
        )
    first, second = (load(str(tmp_path / value / "cost_twin.py")) for value in ("a", "b"))
    assert (first.C().x, second.C().x) == ("a", "b")
    assert sys.modules[first.__name__] is first
    assert sys.modules[second.__name__] is second


def test_nothing_that_is_installed_is_shadowed(tmp_path):
    for name in ("json.py", "decimal.py", "colorsys.py"):
        (tmp_path / name).write_text("cost_func = print\n")
    for name in ("json.py", "colorsys.py"):
        assert load(str(tmp_path / name)).cost_func is print
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from openrlhf_rad.plugin.costs.python_file import load;"
            f" load({str(tmp_path / 'json.py')!r}); import colorsys, json;"
            " print(colorsys.__file__, json.__file__)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) not in done.stdout
    assert json.dumps({}) == "{}"


def test_a_file_that_has_changed_is_read_again(tmp_path):
    path = tmp_path / "cost_changes.py"
    for value in (1, 2):
        path.write_text(f"def cost_func(q, p, l): return {value}  # {'x' * value}\n")
        assert function_of(str(path), "cost_func", "cost function", CostError)(0, 0, 0) == value
    path.write_text("1 / 0\n")
    with pytest.raises(
        CostError, match=r"^cost function .* does not load: ZeroDivisionError: division by zero$"
    ):
        function_of(str(path), "cost_func", "cost function", CostError)
    assert sys.modules["cost_changes"].cost_func(0, 0, 0) == 2


def test_a_name_that_is_no_python_name_is_fine(tmp_path):
    path = tmp_path / "my cost-v1.2.py"
    path.write_text(textwrap.dedent(FILES["a dataclass with postponed annotations"]))
    assert load(str(path)).cost_func(["harm help"], [""], [""]) == [0.8]


def test_a_reward_file_loads_as_a_cost_file_does(cost_file):
    """OpenRLHF's own loader refuses a dataclass with postponed annotations."""
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    text = FILES["a dataclass with postponed annotations"].replace("cost_func", "reward_func")
    path = str(cost_file(text, "reward_as_written.py"))
    with pytest.raises(AttributeError):
        SingleTurnAgentExecutor([path])
    executor = Executor([path])
    assert executor.reward_func(["harm help"], [""], [""]) == [0.8]
    assert executor.reward_endpoints == [path]
    assert Executor(["http://h/"]).reward_func is None
    assert Executor(None).reward_endpoints == []
    message = f"reward function {path} has no reward_func; define reward_func(queries, prompts, labels)"
    pathlib.Path(path).write_text("x = 1\n")
    with pytest.raises(RewardError, match=f"^{re.escape(message)}$"):
        Executor([path])
