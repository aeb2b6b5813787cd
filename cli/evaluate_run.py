"""What ``rad eval`` does once its options are read."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_rad.errors import ConfigError, RadError, did_you_mean
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.compare import Analysis
from openrlhf_rad.evaluation.constraints import costs_of
from openrlhf_rad.evaluation.run import Job, run
from openrlhf_rad.evaluation.sources import AnswerPlan, Rating, Sampling, Source, parse_rating, parse_sources
from openrlhf_rad.jobs.presets import PRESETS, Preset, place
from openrlhf_rad.plugin.arguments import TRUST
from openrlhf_rad.processes import stoppable
from openrlhf_rad.profile import CostSource, RiskProfile, load_profile
from openrlhf_rad.profile.costs import JudgeSettings
from openrlhf_rad.progress import bars
from openrlhf_rad.tables import column_names, rows

from .evaluate import EvaluateOptions
from .terminal import INTERRUPTED, console, say

if TYPE_CHECKING:
    from rich.progress import TaskID

    from openrlhf_rad.progress import Show


def main(options: EvaluateOptions) -> int:
    """Do what the options ask for; returns the exit code, 130 after Ctrl-C."""
    if options.trust_remote_code:
        os.environ[TRUST] = "1"  # for the processes that hold the models
    try:
        job = make(options)
        if options.dry_run:
            print(rehearsal(job))
        ratings = [rating for source in job.sources for _, rating, _ in job.plan.ratings(source)]
        problems = job.plan.problems(job.sources)
        problems += rating_problems(ratings, {"reward": "--reward"})
        if problems:
            raise ConfigError("\n".join(problems))
        if options.dry_run:
            return 0
        with stoppable(), progress() as show:
            data = run(job, show)
        # A window that opens by itself would hold the command up.
        os.environ.setdefault("MPLBACKEND", "Agg")
        from openrlhf_rad.report.pictures import draw
        from openrlhf_rad.report.terminal import print_evaluation

        draw(options.out)
        shown = options.worst if options.worst is not None else 3 * sys.stdout.isatty()
        print_evaluation(data, console(), samples=shown)
        print(f"\n{options.out}: eval.json, CSV files, plots/")
        print(f"next: rad report {shlex.quote(str(options.out))} --open")
        if any(row["inverted"] for row in data["sign"]):
            print("error: the sign of a cost is inverted, see the lines marked !", file=sys.stderr)
            return 1
        return 0
    except RadError as error:
        say("error", error)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"stopped; what was done is in {options.out}, the same command goes on", file=sys.stderr)
        return INTERRUPTED


def make(options: EvaluateOptions) -> Job:
    """The options resolved. Raises RadError."""
    if options.template is not None and "{}" not in options.template:
        raise ConfigError(
            f"--template is {options.template!r}; it must hold {{}} where the prompt goes, or none is sent"
        )
    profile = profile_of(options.profile, options.overrides)
    preset = preset_of(options.preset)
    sources = parse_sources(options.baseline, options.candidate, options.model or [])
    words = {name: [place(str(value), Path())] for name, value in (preset.flags if preset else {}).items()}
    held = {name: value[0] for name, value in words.items()}
    asked = costs_of(profile)
    plan = AnswerPlan(
        options.out,
        Columns.parse(options.column or [], asked, options.harmful, labelled=not options.no_labels),
        place(options.prompts, Path()) if options.prompts else held.get("rad.heldout"),
        ratings_of(profile, preset),
        parse_rating("reward", reward)
        if (reward := options.reward or held.get("reward.remote_url"))
        else None,
        options.template or held.get("data.input_template"),
        Sampling(
            options.samples,
            _first(options.temperature, held.get("rollout.temperature"), 1.0),
            options.top_p,
            int(_first(options.max_tokens, held.get("rollout.max_new_tokens"), 256)),
            options.max_len,
            options.seed,
            options.tensor_parallel_size,
        ),
        options.rescore,
        options.keep_texts,
        options.limit,
        asked,
        frozenset(one.segment for one in profile.constraints if one.segment),
    )
    evaluate = profile.evaluate
    threshold = evaluate.threshold if options.threshold is None else options.threshold
    settings = Analysis(threshold, evaluate.confidence, evaluate.resamples, options.seed)
    command = shlex.join(["rad", *sys.argv[1:]])
    return Job(profile, sources, plan, settings, max(options.worst or 0, 5), command)


def profile_of(name: str, overrides: list[str] | None) -> RiskProfile:
    """The profile with its overrides. Raises ProfileError, ConfigError."""
    from openrlhf_rad.plugin.arguments import overrides as parse

    profile = load_profile(name)
    values = parse(overrides or [])
    return profile.with_overrides(values) if values else profile


def preset_of(name: str | None) -> Preset | None:
    """The preset of a name. Raises ConfigError."""
    if name is None:
        return None
    if name not in PRESETS:
        raise ConfigError(
            f"--preset {name}: it must be one of {', '.join(PRESETS)}; {did_you_mean(name, PRESETS)}"
        )
    missing = [path for path in PRESETS[name].assets if not Path(path).exists()]
    if missing:
        raise ConfigError(
            f"--preset {name}: {missing[0]} is not there; run python -m openrlhf_rad.jobs.prepare"
            f" --preset {name}"
        )
    return PRESETS[name]


def ratings_of(profile: RiskProfile, preset: Preset | None) -> dict[str, Rating]:
    """The sources of costs by constraint: the profile's, else the preset's."""
    found: dict[str, Rating] = {}
    for one in profile.constraints:
        if one.cost is not None:
            found[one.family] = Rating("cost", one.cost.kind, one.cost.location, one.cost.settings)
        elif preset is not None:
            found[one.family] = Rating("cost", preset.cost[0], place(preset.cost[1], Path()))
    return found


def rating_problems(ratings: Iterable[Rating], places: Mapping[str, str]) -> list[str]:
    """Why sources cannot rate, as far as it is known before anything starts.

    Args:
        places: what names a source, by its role; else its key in the profile does.
    """
    from openrlhf_rad.plugin.costs.checkpoint import RatingModel
    from openrlhf_rad.plugin.costs.models import placed, problems, served_problems
    from openrlhf_rad.plugin.costs.python_file import definition_problems

    parts = [
        (rating.role, places.get(rating.role, key), one)
        for rating in sorted(set(ratings), key=lambda rating: (rating.role, rating.location))
        for key, one in placed(CostSource(rating.kind, rating.location, rating.settings))
    ]
    found = problems(
        [RatingModel(named, one.location, role) for role, named, one in parts if one.kind == "model"]
    )
    for role, named, one in parts:
        if one.kind == "function":
            found += definition_problems(named, one.location, f"{role}_func")
        elif role == "cost":
            found += served_problems(one, named)
    return found


def rehearsal(job: Job) -> str:
    """What would be done, a line a step."""
    bounds = job.profile.constraints
    lines = [f"profile {job.profile.name}: {bounds[0].risk}, {bounds[0].risk.formula}"]
    if len(bounds) > 1:
        lines[:] = [f"profile {job.profile.name}, constraint {one.name}: {one.risk}" for one in bounds]
    for source in job.sources:
        steps = [*job.plan.steps(source), *_asked(job.plan, source)]
        lines += [f"{source.role} {source.name}: {step}" for step in steps]
    lines.append(f"write {job.plan.out}/eval.json, CSV files and plots/")
    return "\n".join(lines)


def _asked(plan: AnswerPlan, source: Source) -> Iterator[str]:
    """What the judges among the costs will be asked at most for a source's answers, a line each."""
    judges = [
        (rating.location, rating.settings)
        for _, rating, _ in plan.ratings(source)
        if isinstance(rating.settings, JudgeSettings)
    ]
    if not judges:
        return
    from openrlhf_rad.judging.calls import BYTES_A_TOKEN
    from openrlhf_rad.judging.rating import Rater

    answers, tokens = None, plan.sampling.max_len
    if source.table is not None:
        held = column_names(source.table)
        names = [name for role in ("prompt", "answer") if (name := plan.columns.find(role, held))]
        sizes = [
            sum(len(str(row.values.get(name, "")).encode()) for name in names)
            for row in rows(source.table, names)
        ]
        answers, tokens = len(sizes), max(sizes) // BYTES_A_TOKEN + 1
    elif plan.prompts is not None and Path(plan.prompts).is_file():
        answers = plan.sampling.samples * len(plan.questions)
    for location, settings in judges:
        yield Rater.of(settings).asked(location, answers, tokens)


@contextmanager
def progress() -> Iterator[Show]:
    """Bars on a terminal, a line for each phase elsewhere."""
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def line(what: str, _: int, total: int) -> None:
            if what not in seen:
                seen.add(what)
                print(f"{what} ({total})", file=sys.stderr, flush=True)

        yield line
        return
    with bars() as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], description=f"{what} {done}/{total}", completed=done, total=total)

        yield show


def _first(given: float | None, held: str | None, default: float) -> float:
    if given is not None:
        return given
    return float(held) if held is not None else default
