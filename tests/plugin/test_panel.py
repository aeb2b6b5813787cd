"""What TensorBoard and wandb show, read back from what they themselves have written."""

import re
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter

from openrlhf_rad.plugin.panel import LAYOUT, LoggerPanel, keys, others
from openrlhf_rad.plugin.trainer import _OPENRLHF_METRICS
from openrlhf_rad.runs.records import COLUMNS, SECTIONS

ONE = {"step": 3, "risk": 2.0, "reference_risk": 1.5, "lambda": 0.5, "kl": 0.1, "harm_auc": None}
TWO = {"harm/risk": 2.0, "harm/lambda": 0.5, "privacy/risk": 1.0, "privacy/lambda": 0.0, "cost_mean": 0.25}


def test_every_column_has_one_place():
    """In one of RAD's sections, or, as OpenRLHF measures it, under OpenRLHF's own name."""
    ours = [column for columns in SECTIONS.values() for column in columns]
    assert sorted([*ours, *_OPENRLHF_METRICS, "step"]) == sorted(COLUMNS)
    assert {column for columns in LAYOUT.values() for column in columns} <= set(ours)


def test_columns_go_to_their_sections_and_nothing_is_shown_twice():
    assert keys(ONE) == {
        "rad_constraint/risk": 2.0,
        "rad_constraint/reference_risk": 1.5,
        "rad_constraint/lambda": 0.5,
    }
    assert list(keys(TWO)) == [
        "rad_constraint/harm/risk",
        "rad_constraint/harm/lambda",
        "rad_constraint/privacy/risk",
        "rad_constraint/privacy/lambda",
        "rad_costs/cost_mean",
    ]
    logs = {"policy_loss": 1.0, "cost": 0.5, "cost_privacy": 0.1, "rad/risk": 2.0, "kl": 0.1, "costly": 3.0}
    assert others(logs) == {"policy_loss": 1.0, "kl": 0.1, "costly": 3.0}


@pytest.mark.parametrize("metrics", [ONE, TWO], ids=["one constraint", "two"])
def test_tensorboard_holds_the_sections_and_a_layout_that_finds_them(metrics, tmp_path):
    writer = SummaryWriter(str(tmp_path))
    panel = LoggerPanel(None, SimpleNamespace(writer=writer))
    for step in (1, 2):
        panel.log(step, metrics)
    writer.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(keys(metrics))
    assert [event.step for event in read.Scalars(next(iter(keys(metrics))))] == [1, 2]
    layout = layout_pb2.Layout()
    layout.ParseFromString(read.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert set(charts) == set(LAYOUT)
    # TensorBoard takes each for a regular expression.
    risk = {
        tag
        for pattern in charts["risk of policy and reference"]
        for tag in keys(metrics)
        if re.match(pattern, tag)
    }
    assert risk == {tag for tag in keys(metrics) if tag.endswith("risk")}
    assert len(risk) == 2


def test_wandb_takes_the_sections_with_their_step(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(project="rad", dir=tmp_path)
    try:
        panel = LoggerPanel(SimpleNamespace(handle=run), None)
        for step in (1, 2):
            panel.log(step, TWO | {"harm/risk": float(step)})
        shown = {name: run.summary[name] for name in keys(TWO)}
        assert shown == keys(TWO) | {"rad_constraint/harm/risk": 2.0}
        assert run.summary["train/global_step"] == 2
    finally:
        run.finish()
