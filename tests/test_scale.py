"""benchmarks/scale.py: its formulas against numbers made by hand, its tables, its flags."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def computed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scale_computed

    return scale_computed


@pytest.fixture
def scale(computed):
    import scale

    return scale


@pytest.fixture
def small(computed):
    """6 samples of 10 + 20 tokens on 2 GPUs, each a node."""
    return computed.Setting(
        gpus=2,
        samples_per_gpu=3,
        prompt_tokens=10,
        answer_tokens=20,
        characters=2.0,
        policy=100.0,
        reward=50.0,
        cost=10.0,
        flops=1e6,
        utilisation=0.5,
        network=720.0,
        gpus_per_node=1,
        reference_samples=4,
        passes=2,
    )


def test_formulas_give_what_is_reckoned_by_hand(computed, small):
    assert (small.samples, small.tokens) == (6, 30)
    assert computed.cost_flops(small) == 2 * 10 * 180 == 3_600
    # 200 each for generation, log-probabilities and reference, 100 for the reward, 600 for each pass trained.
    assert computed.rollout_flops(small) == (200 + 200 + 200 + 100 + 600 + 600) * 180 == 342_000
    assert computed.seconds(342_000, small) == pytest.approx(0.342)
    assert computed.answer_bytes(small) == 2 * 20 * 6 == 240
    assert computed.texts_bytes(small) == 2 * 30 * 6 == 360
    assert computed.leaving_bytes(small) == 180  # one of two nodes is the controller's
    assert computed.leaving_bytes(computed.Setting(gpus=8)) == 0
    assert computed.request_bytes(small) == 2 * (10 + 20 + 10) * 6 == 480
    assert computed.log_bytes(small) == (60 + 120) * 6 == 1_080
    assert computed.log_bytes(computed.Setting(gpus=8)) == (4 * 1024 + 120) * 256  # of 1,024 answers
    assert computed.column_bytes(small) == 26 * 6 == 156
    assert computed.rollout_bytes(small) == 40 * 180 == 7_200
    assert computed.state_bytes(small) == (20 + 48) * 4 * 2 == 544
    assert computed.model_bytes(small) == 20


def test_the_table_holds_every_row_for_every_number_of_gpus(computed, small):
    lines = computed.table(small, [2, 4], {"more": lambda one: str(one.gpus)}).splitlines()
    assert lines[0] == "| computed | 2 GPUs | 4 GPUs |"
    assert len(lines) == 2 + len(computed.ROWS) + 1
    assert "| rollout at its shortest | 342 ms | 342 ms |" in lines
    assert "| time on the network | 250 ms | 750 ms |" in lines
    assert lines[-1] == "| more | 2 | 4 |"


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (
            "duration",
            {0: "0 s", 3.2e-5: "32 µs", 0.0123: "12 ms", 0.9996: "1 s", 37.4: "37 s"},
        ),
        ("size", {0: "0 KiB", 1536: "1.5 KiB", 2**20: "1 MiB", 2.5 * 2**30: "2.5 GiB"}),
        ("percent", {0.14286: "14 %", 0.00012: "0.012 %"}),
    ],
)
def test_units(computed, made, text):
    assert {value: getattr(computed, made)(value) for value in text} == text


def test_the_controllers_time_adds_its_parts_and_grows_with_tokens(computed, scale, small):
    """1 µs a sample for each part, and in two of them 1 µs a token: 12 tokens fewer than 32 save 24 µs."""

    def found(count, **longer):
        names = [*scale.SERIAL, *scale.SERIAL_BEFORE, scale.PLAIN, scale.BONUS]
        rollout = {name: {"seconds": (1 + longer.get(name, 0)) * 1e-6 * count} for name in names}
        return {"usual": {scale.WHOLE: {"seconds": 1e-6 * count}}, "rollout": rollout}

    largest, short = found(1000), found(scale.FITTED)
    long = found(scale.FITTED, **{scale.SERIAL[0]: 480, scale.SERIAL[3]: 480})
    each = 1 + len(scale.SERIAL) + 2 * (small.answer_tokens - 32)
    assert scale.controller_seconds(small, largest, 1000, short, long) == pytest.approx(6 * each * 1e-6)
    before = scale.controller_seconds(small, largest, 1000, short, long, serial=scale.SERIAL_BEFORE)
    # Of the two longer parts one is the controller's in both.
    each = 1 + len(scale.SERIAL_BEFORE) + (small.answer_tokens - 32)
    assert before == pytest.approx(6 * each * 1e-6)


def test_every_input_is_a_flag(scale):
    words = ["--gpus", "16", "--cost", "1e9", "--samples-per-gpu", "4", "--computed-only"]
    given, options = scale.read(words)
    assert (options.gpus, given.cost, given.samples_per_gpu) == ([16], 1e9, 4)
    assert set(scale.options_of(given)) == {
        "samples-per-gpu",
        "prompt-tokens",
        "answer-tokens",
        "characters",
        "policy",
        "reward",
        "cost",
        "flops",
        "utilisation",
        "network",
        "reference-samples",
        "gpus-per-node",
        "passes",
    }


def test_the_page_shows_the_computed_rows_as_they_are_now(computed, scale):
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    given, options = scale.read([])
    assert scale.inputs(given) in page
    rows = computed.table(given, options.gpus).splitlines()
    assert [row for row in rows if row not in page] == []
