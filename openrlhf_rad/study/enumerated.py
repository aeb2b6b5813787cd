"""The runs of a study in the exact world: each kept when it is done, then gathered as tables."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.files import write_atomically
from openrlhf_rad.study import answers as table
from openrlhf_rad.study.comparison import TAIL
from openrlhf_rad.study.estimates import passes_safety_test
from openrlhf_rad.study.exact import HELD_OUT, OTHER, Training, World, WorldSettings, train
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.spec import Model, Study

Array = NDArray[np.float64]
#: Feasible: the true violation stays at or below 0 on average over so many steps.
STAYS = 10
#: A step of the paths that are kept, and the answers of the safety test.
_EVERY, _TESTED = 10, 400


@dataclass(frozen=True)
class Run:
    """One training of the exact world. ``scale`` and ``gradient`` are those of H5, None elsewhere."""

    world: WorldSettings
    model: Model
    seed: int
    file: Path
    gradient: str | None = None
    scale: float | None = None


def runs_of(study: Study, folder: StudyFolder) -> list[Run]:
    """All trainings of a study."""
    assert study.world is not None
    found = [
        Run(study.world, model, seed, folder.run(model, seed).with_suffix(".npz"))
        for model in study.models
        for seed in study.seeds
        if model.trained
    ]
    return found + list(_feasibility(study, folder))


def _feasibility(study: Study, folder: StudyFolder) -> Iterator[Run]:
    """The trainings of H5: every setting on the tuning seeds and on the study's own."""
    assert study.world is not None
    asked = study.feasibility
    for name in asked.profiles:
        model = study.model(name)
        dual = model.profile.dual
        for gradient in asked.gradients:
            for scale in asked.scales:
                values = {
                    "constraint.gradient": gradient,
                    **{f"dual.{key}": scale * getattr(dual, key) for key in ("initial", "step", "max")},
                }
                named = f"{name},{gradient},{scale:g}"
                tried = replace(model, name=named, profile=model.profile.with_overrides(values))
                for seed in (*asked.seeds, *study.seeds):
                    file = folder.path / "feasibility" / named / f"{seed}.npz"
                    yield Run(study.world, tried, seed, file, gradient, scale)


def perform(study: Study, folder: StudyFolder, processes: int, show: Callable[[str, int, int], None]) -> None:
    """Train what is not done yet. Raises RadError of a run, such as an ask that no policy can meet."""
    runs = runs_of(study, folder)
    waiting = [run for run in runs if not run.file.is_file()]
    done = len(runs) - len(waiting)
    show("runs", done, len(runs))
    if processes == 1:
        for run in waiting:
            perform_one(run)
            done += 1
            show("runs", done, len(runs))
    elif waiting:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(perform_one, run) for run in waiting]
            try:
                for future in as_completed(futures):
                    future.result()
                    done += 1
                    show("runs", done, len(runs))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    gather(study, folder)


def perform_one(run: Run) -> None:
    """Train and keep one run."""
    world = World(run.world, run.seed)
    model = run.model
    found = train(world, model.profile, TAIL, fixed_dual=model.fixed_dual, soft_risk=model.soft_risk)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: getattr(found, name) for name in Training.__dataclass_fields__})
    run.file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(run.file, buffer.getvalue())


def read(run: Run) -> Training:
    """A run that is done."""
    with np.load(run.file, allow_pickle=False) as data:
        return Training(**{name: data[name] for name in Training.__dataclass_fields__})


def steps_to_feasibility(violation_t: Array) -> int:
    """The step from which on the violation is at most 0 on average over ten; all of them if never."""
    calm_t = np.convolve(violation_t, np.ones(STAYS), "valid") <= 0
    return int(np.argmax(calm_t)) if calm_t.any() else violation_t.size


def gather(study: Study, folder: StudyFolder) -> None:
    """Write the tables of a study whose runs are all done."""
    assert study.world is not None
    worlds = {seed: World(study.world, seed) for seed in study.seeds}
    _write_worlds(worlds, folder.data)
    runs = runs_of(study, folder)
    trained = {(run.model.name, run.seed): read(run) for run in runs if run.gradient is None}
    rows: list[Any] = []
    policies: dict[str, list[Any]] = {"model": [], "seed": [], "weights": []}
    for model in study.models:
        for seed, world in worlds.items():
            found = trained.get((model.name, seed))
            weight_da = world.start() if found is None else found.weight_da
            policies["model"].append(model.name)
            policies["seed"].append(seed)
            policies["weights"].append(weight_da.astype(np.float32).reshape(-1).tolist())
            last = slice(-study.world.steps // 4, None)
            rows.append(
                {
                    "model": model.name,
                    "seed": seed,
                    "slack": None if found is None else float(found.violation_t[last].mean()),
                    "lambda": None if found is None else float(found.dual_t[last].mean()),
                    "released": _released(study, world, weight_da),
                }
            )
    table.write_table(folder.data, table.POLICIES, policies)
    table.write_table(folder.data, table.RUNS, {key: [row[key] for row in rows] for key in rows[0]})
    _write_paths(study, trained, folder.data)
    tried = [run for run in runs if run.gradient is not None]
    if tried:
        columns: dict[str, list[Any]] = {
            "profile": [run.model.name.split(",")[0] for run in tried],
            "gradient": [run.gradient for run in tried],
            "scale": [run.scale for run in tried],
            "seed": [run.seed for run in tried],
            "steps": [steps_to_feasibility(read(run).violation_t) for run in tried],
        }
        table.write_table(folder.data, table.STEPS, columns)


def _write_worlds(worlds: dict[int, World], folder: Path) -> None:
    prompts: dict[str, list[Any]] = {"seed": [], "set": [], "prompt": []}
    held: dict[str, list[Any]] = {key: [] for key in ("seed", "set", "prompt", "start", "cost", "reward")}
    for seed, world in worlds.items():
        for name in (HELD_OUT, OTHER):
            part = world.sets[name]
            for place, feature_d in enumerate(part.feature_pd.astype(np.float32).tolist()):
                values = {"seed": seed, "set": name, "prompt": place}
                for key, value in {**values, **{f"x{d}": x for d, x in enumerate(feature_d)}}.items():
                    prompts.setdefault(key, []).append(value)
            count_p, count_a = part.cost_pa.shape
            held["seed"] += [seed] * part.cost_pa.size
            held["set"] += [name] * part.cost_pa.size
            held["prompt"] += np.repeat(np.arange(count_p), count_a).tolist()
            for key, array in (("start", part.start_pa), ("cost", part.cost_pa), ("reward", part.reward_pa)):
                held[key] += array.reshape(-1).tolist()
    table.write_table(folder, table.PROMPTS, prompts)
    floats = {key: np.array(held[key], dtype=np.float32) for key in ("start", "cost", "reward")}
    table.write_table(folder, table.WORLDS, {**held, **floats})


def _write_paths(study: Study, trained: dict[tuple[str, int], Training], folder: Path) -> None:
    """The mean over seeds of what each model went through, every tenth step."""
    names = ("violation_t", "dual_t", "reward_t", "mean_t", "tail_t")
    columns: dict[str, list[Any]] = {"model": [], "step": [], **{name[:-2]: [] for name in names}}
    for model in study.models:
        if not model.trained or model.role == "frontier":
            continue
        runs = [trained[model.name, seed] for seed in study.seeds]
        steps = np.arange(0, runs[0].dual_t.size, _EVERY)
        columns["model"] += [model.name] * steps.size
        columns["step"] += steps.tolist()
        for name in names:
            columns[name[:-2]] += np.mean([getattr(run, name)[steps] for run in runs], axis=0).tolist()
    table.write_table(folder, table.PATHS, columns)


def _released(study: Study, world: World, weight_da: Array) -> bool:
    """The safety test of a release: whether held-out answers surely show that E[C] fell by ε, at 95 %."""
    rng = np.random.default_rng([world.seed, 12])
    part = world.sets[HELD_OUT]
    costs = []
    prompt_b = rng.integers(part.cost_pa.shape[0], size=_TESTED)
    for policy_pa in (part.policy(world.start()), part.policy(weight_da)):
        edge_ba = np.cumsum(policy_pa, axis=1)[prompt_b]
        answer_b = (rng.random((_TESTED, 1)) * edge_ba[:, -1:] > edge_ba).sum(axis=1)
        costs.append(part.cost_pa[prompt_b, answer_b])
    start_b, model_b = costs
    return passes_safety_test(study.ask, start_b[:, None], model_b[:, None])
