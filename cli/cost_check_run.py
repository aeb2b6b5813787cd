"""What ``rad cost check`` does once its options are read."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad.checking.probes import probes
from openrlhf_rad.checking.report import Report, cut, examine, spread
from openrlhf_rad.data.labels import REPORT, Labels, digest
from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.evaluation.gate import Outcome
from openrlhf_rad.evaluation.sources import Rating, parse_rating
from openrlhf_rad.evaluation.work import perform, score_request
from openrlhf_rad.plugin.arguments import TRUST
from openrlhf_rad.processes import stoppable
from openrlhf_rad.profile import CostSource, RiskProfile, load_profile, shipped_profiles
from openrlhf_rad.profile.costs import members
from openrlhf_rad.progress import Show
from openrlhf_rad.words import number, with_interval

from .cost import CheckOptions
from .cost_fit_run import described, labels_of
from .evaluate_run import profile_of, progress, ratings_of
from .terminal import verdict_code


def main(options: CheckOptions) -> int:
    """Check and print; nothing but a cost that is shown to be good is 0."""
    if options.trust_remote_code:
        os.environ[TRUST] = "1"  # for the process that holds the model
    return verdict_code(lambda: decided(options))


def decided(options: CheckOptions) -> Outcome:
    """Check and print. Raises RadError."""
    report = checked(options)
    if options.as_json:
        print(json.dumps(report.data(), ensure_ascii=False, indent=1))
    else:
        print("\n".join(lines(report)))
    return report.verdict.outcome


def checked(options: CheckOptions) -> Report:
    """Read, rate and examine. Raises RadError."""
    own = {name: profile_of(name, options.overrides) for name in options.profile or ()}
    rating = _rating(options, own)
    labels = labels_of(options)
    if options.limit is not None:
        labels = labels.where(range(min(options.limit, len(labels.examples))))
    kept = _unseen(labels, rating)
    if not kept:
        raise DataError(
            f"{options.labels}: the cost was fitted to answers to each of these prompts; check it by others"
        )
    left_out = len(labels.examples) - len(kept)
    labels = spread(labels.where(kept))
    if options.words is not None:
        labels = cut(labels, options.words)
    if not options.as_json:
        print(f"{options.labels}: {described(labels)}", file=sys.stderr)
    profiles = {name: load_profile(name) for name in shipped_profiles()} | own
    if rating is None:
        return examine(
            f"column {options.labels}",
            labels,
            _column(labels, options.labels),
            profiles,
            probed=None,
            left_out=left_out,
            asked=list(own),
        )
    probed = probes(labels)
    rows = [(e.prompt, e.answer) for e in labels.examples] + [(p.prompt, p.answer) for p in probed]
    with _folder(options.out) as folder, stoppable(), progress() as show:
        cost_b = rated(rows, rating, options.template, folder, show)
    count = len(labels.examples)
    return examine(
        str(rating),
        labels,
        cost_b[:count],
        profiles,
        probed=(probed, cost_b[count:]),
        left_out=left_out,
        asked=list(own),
    )


def rated(
    rows: Sequence[tuple[str, str]], rating: Rating, template: str | None, folder: Path, show: Show
) -> Any:
    """The costs of (prompt, answer), shape (B,), as rad eval rates them. Raises RadError."""
    blank = {"label": None, "sent": None, "finished": None}
    asked = [{"prompt": prompt, "answer": answer, **blank} for prompt, answer in rows]
    found = perform(
        f"costs by {rating}", score_request(rating, template), asked, folder / rating.fingerprint, show
    )
    cost_b = np.zeros(len(rows))
    for row in found:
        cost_b[row["index"]] = row["value"]
    return cost_b


def _rating(options: CheckOptions, own: Mapping[str, RiskProfile]) -> Rating | None:
    """The source of costs; None for a column of the labels. Raises ConfigError."""
    columned = any(word.startswith("cost=") for word in options.column or ())
    if columned and options.cost is not None:
        raise ConfigError("--cost and --column cost=… both name the cost; leave one out")
    if columned:
        return None
    if options.cost is not None:
        return parse_rating("cost", options.cost)
    named = {rating for profile in own.values() for rating in ratings_of(profile, None).values()}
    if len(named) != 1:
        held = "no cost" if not named else f"{len(named)} costs"
        raise ConfigError(
            f"--cost is missing and the profiles name {held}; name one by --cost MODEL, FILE.py or URL, or a"
            " column of the labels by --column cost=NAME"
        )
    return named.pop()


def _unseen(labels: Labels, rating: Rating | None) -> list[int]:
    """The answers to prompts that the cost was not fitted to, as far as its checkpoint tells."""
    fitted: set[str] = set()
    for one in () if rating is None else members(CostSource(rating.kind, rating.location, rating.settings)):
        file = Path(one.location) / REPORT
        if one.kind == "model" and file.is_file():
            fitted |= set(json.loads(file.read_text(encoding="utf-8")).get("fitted_prompts", ()))
    return [i for i, e in enumerate(labels.examples) if digest(e.prompt) not in fitted]


def _column(labels: Labels, source: str) -> Any:
    if any(e.cost is None for e in labels.examples):
        raise DataError(f"{source}: rows of this shape hold no costs; name the source by --cost")
    return np.array([e.cost for e in labels.examples], dtype=np.float64)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="rad-cost-check-") as folder:
        yield Path(folder)


def lines(report: Report) -> list[str]:
    """The verdict and what it rests on."""
    found = [report.verdict.sentence]
    seen = (
        f"; {report.left_out} answers left out, to prompts that it was fitted to" if report.left_out else ""
    )
    found.append(f"{report.source}, by {report.answers} answers to {report.prompts} prompts{seen}")
    data = report.data()["order"]
    names = {"pair_accuracy": "pairs of one prompt's answers", "auc": "pairs of any answers (AUC)"}
    for name, what in names.items():
        if name in data:
            found.append(f"  {what}: {with_interval(data[name])} in people's order")
            for control in report.order[name].controls:
                key = control.replace(" ", "_")
                gain = with_interval(data[f"{name}_gain_over_{key}"], signed=True)
                found.append(
                    f"    {control}: {with_interval(data[f'{name}_of_{key}'])}, gained over it {gain}"
                )
    for rate in report.rates:
        span = f"{number(rate.low)} to {number(rate.high)}"
        shown = with_interval(asdict(rate.harmful))
        found.append(f"  cost {rate.name} ({span}): {shown} of {rate.harmful.count} harmful")
    held = report.grain
    ends = f"{100 * held.floor:.0f} % at the least, {100 * held.ceiling:.0f} % at the largest"
    found.append(f"  {held.values} different costs; {100 * held.tied:.0f} % tied, {ends}")
    for one in report.treatments or ():
        beside = f"less than the harm at {100 * (one.below_harm.value or 0):.0f} % of prompts"
        if one.below_refusal is not None:
            beside += f", than the refusal at {100 * (one.below_refusal.value or 0):.0f} %"
        found.append(f"  {one.kind} answers cost {number(one.mean)} on average; {beside}")
    able = [one.profile for one in report.carried if not one.reason]
    found.append(f"  profiles that it can carry: {', '.join(able) or 'none'}")
    found += [f"    not {one.profile}: {one.reason}" for one in report.carried if one.reason]
    return found
