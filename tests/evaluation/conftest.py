"""Tables of answers, panels, and the simulations of benchmarks/intervals.py."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from openrlhf_rad.cli.rad import app
from typer.testing import CliRunner


@pytest.fixture(scope="session")
def coverage():
    """The module benchmarks/intervals.py: its experiments, to be repeated less often here."""
    path = Path(__file__).parents[2] / "benchmarks" / "intervals.py"
    spec = importlib.util.spec_from_file_location("rad_coverage", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["rad_coverage"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rad(tmp_path, monkeypatch):
    """A command of rad in an empty folder: its output and exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


@pytest.fixture
def write(tmp_path):
    """Write rows to a file of the suffix's format, and return its path."""

    def make(name, rows):
        path = tmp_path / name
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif path.suffix == ".csv":
            import csv

            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(rows), path)
        return path

    return make


@pytest.fixture(scope="session")
def rows():
    """Scored answers of a model to prompts, as plain rows."""

    def make(count, shift=0.0, each=1, seed=0, **more):
        rng = np.random.default_rng(seed)
        return [
            {
                "prompt": f"prompt {p}",
                "answer": f"answer {s} to {p}",
                "reward": float(rng.normal()),
                "cost": float(rng.normal() + shift),
                **more,
            }
            for p in range(count)
            for s in range(each)
        ]

    return make
