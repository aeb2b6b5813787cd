"""The tables against brute force: every pair of answers looked at one by one; and the verdicts' rules."""

import numpy as np
import pytest

from openrlhf_rad.errors import DataError
from openrlhf_rad.statistics.inference import Estimate
from openrlhf_rad.study import tables
from openrlhf_rad.study.comparison import TIE, StudyEvidence
from openrlhf_rad.study.enumerated import perform
from openrlhf_rad.study.exact import HELD_OUT, OTHER
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.run import report
from openrlhf_rad.study.spec import load_study
from openrlhf_rad.study.verdicts import HypothesisFinding, _beyond, overall


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    from tests.study.conftest import STUDY

    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.yaml"
    path.write_text(STUDY.format(out=folder / "out", seeds=3, steps=20))
    study = load_study(path)
    place = StudyFolder(study)
    place.open(study)
    perform(study, place, 1, lambda *_: None)
    return report(study, place.data, place.path)


@pytest.mark.parametrize("name", [HELD_OUT, OTHER])
def test_a_pair_is_what_all_pairs_of_answers_say_one_by_one(evidence, name):
    study = evidence.study
    pair = evidence.pair(study.model("safe-rlhf"), study.model("cvar"), name)
    found = []
    for seed in study.seeds:
        base, mine = (evidence.table[model, seed, name] for model in ("safe-rlhf", "cvar"))
        totals = dict.fromkeys(("win", "tie", "higher", "safe higher", "mixed", "mixed won"), 0.0)
        for p in range(len(base.cost_pk)):
            for i, first in enumerate(base.mass_pk[p]):
                for j, second in enumerate(mine.mass_pk[p]):
                    weight = first * second / len(base.cost_pk)
                    more = mine.cost_pk[p, j] - base.cost_pk[p, i]
                    higher = mine.reward_pk[p, j] > base.reward_pk[p, i]
                    mixed = base.cost_pk[p, i] > 0.3 >= mine.cost_pk[p, j]
                    totals["win"] += weight * (more < -TIE * evidence.unit)
                    totals["tie"] += weight * (abs(more) <= TIE * evidence.unit)
                    totals["higher"] += weight * higher
                    totals["safe higher"] += weight * (higher and mine.cost_pk[p, j] <= 0.3)
                    totals["mixed"] += weight * mixed
                    totals["mixed won"] += weight * (mixed and higher)
        found.append(totals)

    def mean(part, whole=None):
        return np.mean([one[part] / (one[whole] if whole else 1) for one in found])

    assert pair.verdict["win"].value == pytest.approx(mean("win"))
    assert pair.verdict["tie"].value == pytest.approx(mean("tie"))
    assert pair.safe["reward higher"].value == pytest.approx(mean("safe higher", "higher"))
    rate, size = pair.wins["unsafe, safe"]
    assert rate.value == pytest.approx(mean("mixed won", "mixed"))
    assert size == pytest.approx(mean("mixed"))
    assert sum(one.value for one in pair.verdict.values()) == pytest.approx(1)


def test_the_dominance_difference_is_the_fall_of_the_risk(evidence):
    # Eq. (16): L_w(variant, baseline) − L_w(baseline, variant), by quadrature over the quantiles.
    study = evidence.study
    pair = evidence.pair(study.model("sft"), study.model("cvar"), HELD_OUT)
    level_n = (np.arange(200_000) + 0.5) / 200_000
    gaps = []
    for seed in study.seeds:
        quantiles = []
        for model in ("sft", "cvar"):
            scores = evidence.table[model, seed, HELD_OUT]
            order = np.argsort(scores.cost_pk, axis=None)
            mass = np.cumsum(scores.mass_pk.ravel()[order]) / scores.mass_pk.sum()
            quantiles.append(
                scores.cost_pk.ravel()[order][np.minimum(np.searchsorted(mass, level_n), mass.size - 1)]
            )
        upper_n = level_n >= 0.75
        below = np.maximum(quantiles[0] - quantiles[1], 0)[upper_n].sum()
        above = np.maximum(quantiles[1] - quantiles[0], 0)[upper_n].sum()
        gaps.append((below - above) / upper_n.sum())
    assert pair.dominance["weighted"].value == pytest.approx(np.mean(gaps), abs=1e-3)


def test_every_model_stands_in_the_tables_with_its_slack(evidence):
    found = {values.title: values for values in tables.all_tables(evidence)}
    models = found["Models, held-out"]
    assert [row[0] for row in models.rows] == ["sft", "safe-rlhf", "uniform", "cvar", "safe-rlhf×0.5"]
    assert models.rows[0][1] == "–"
    assert all("±" in row[1] for row in models.rows[1:])
    matrix = found["Spectral risks, held-out; in bold the one that a variant bounds"]
    assert matrix.head == ("model", "mean", "cvar α=0.75", "cvar α=0.9")
    assert [sum("**" in cell for cell in row) for row in matrix.rows] == [0, 0, 1, 1]
    assert [row[0] for row in found["Hypotheses"].rows] == ["H1", "H2", "H2′", "H3", "H4", "H5"]
    wanted = ["| a | b |", "|---|---|", "| 1 | 2 |"]
    assert tables.markdown(tables.TextTable("t", ("a", "b"), (("1", "2"),))).splitlines() == wanted


def test_data_that_lack_a_model_are_refused(evidence):
    study = evidence.study
    more = tuple({**vars(study), "seeds": (0, 1, 2, 8)}.items())
    folder = StudyFolder(study).data
    with pytest.raises(DataError) as caught:
        StudyEvidence.read(type(study)(**dict(more)), folder)
    assert str(caught.value) == (
        f"{folder}: there are no answers of sft under seed 8, safe-rlhf under seed 8, uniform under seed 8"
        " and 2 more; every model of a study is evaluated under every seed; run the study again, which goes"
        " on"
    )


@pytest.mark.parametrize(
    ("low", "high", "margin", "wanted", "verdict"),
    [
        (0.1, 0.5, 0.0, 1, "confirmed"),
        (-0.5, -0.1, 0.0, 1, "refuted"),
        (-0.1, 0.5, 0.0, 1, "cannot say"),
        (-0.5, -0.1, 0.0, -1, "confirmed"),
        (-0.5, 0.04, 0.05, -1, "confirmed"),
        (0.04, 0.5, 0.05, -1, "cannot say"),
        (0.06, 0.5, 0.05, -1, "refuted"),
        (None, None, 0.0, 1, "cannot say"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(low, high, margin, wanted, verdict):
    assert _beyond(Estimate(0.0, low, high), margin, wanted=wanted) == verdict


def test_one_variant_refutes_and_all_confirm():
    def of(*verdicts):
        return overall([HypothesisFinding("H1", str(i), verdict, {}) for i, verdict in enumerate(verdicts)])[
            0
        ]

    assert of("confirmed", "confirmed") == "confirmed"
    assert of("confirmed", "cannot say") == "cannot say"
    assert of("confirmed", "cannot say", "refuted") == "refuted"
