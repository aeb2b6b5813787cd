"""The file of a study: which models, over which seeds, by which ask, in which world or job."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from openrlhf_rad.errors import Problem, ProfileError, did_you_mean, shown
from openrlhf_rad.jobs.presets import place
from openrlhf_rad.method.settings import Level
from openrlhf_rad.method.soft_risk import SoftRisk
from openrlhf_rad.profile import RiskProfile, load_profile
from openrlhf_rad.profile.files import is_path, read_text
from openrlhf_rad.profile.yaml import Node, Problems, parse
from openrlhf_rad.study.exact import Kind, WorldSettings

#: The models that variants are compared with: a profile, what it overrides, and how it is trained.
BASELINES: dict[str, dict[str, Any]] = {
    "sft": {"profile": "safe-rlhf", "trained": False},
    "reward-only": {"profile": "safe-rlhf", "fixed_dual": 0.0},
    "safe-rlhf": {"profile": "safe-rlhf"},
    "high-confidence": {"profile": "safe-rlhf", "set": {"dual.confidence": 0.9}},
    "ra-rlhf": {"profile": "safe-rlhf", "soft_risk": SoftRisk()},
}
START, SAFE = "sft", "safe-rlhf"
_KEYS = (
    *("name", "out", "seeds", "ask", "baselines", "profiles", "set", "frontier", "feasibility"),
    *("world", "job", "evaluation", "launcher"),
)
_EVALUATION = ("held-out", "other", "samples", "independent", "limit", "threshold")
#: The least value of a number, by key, where it is not 0; whether it is whole its field's type says.
_LEAST = {"reward": -math.inf, "threshold": -math.inf, "answers": 2}
_LEAST |= dict.fromkeys(("samples", "limit", "count", "prompts", "features", "steps"), 1)
_POSITIVE = ("share", "tempted", "rate")


@dataclass(frozen=True)
class Model:
    """One model of a study, over all seeds.

    Attributes:
        role: whether it is compared with, compared, or only a point of the frontier.
        multiple: of the study's ask. fixed_dual: holds λ. trained: False is the start itself.
    """

    name: str
    profile: RiskProfile
    role: Literal["baseline", "variant", "frontier"]
    multiple: float = 1.0
    fixed_dual: float | None = None
    soft_risk: SoftRisk | None = None
    trained: bool = True

    def recorded(self) -> dict[str, Any]:
        """What its runs depend on, as JSON values."""
        soft = asdict(self.soft_risk) if self.soft_risk else None
        return {"profile": self.profile.hash, "fixed_dual": self.fixed_dual, "soft_risk": soft}


@dataclass(frozen=True)
class TrainingJob:
    """What ``rad-train`` is told beside profile, seed and folder."""

    preset: str | None = None
    config: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)

    def words(self) -> list[str]:
        """OpenRLHF's flags, as on a command line; true is a bare flag."""
        return [
            word
            for name, value in self.flags.items()
            for word in (f"--{name}", *([] if value is True else [str(value)]))
        ]


@dataclass(frozen=True)
class EvaluationPlan:
    """How the trained models are asked.

    Attributes:
        prompts: set → file or data set, held-out first. samples: answers to each prompt.
        independent: a cost that training never sees, as ``rad eval --reward`` names sources.
        limit: of the prompts of each set. threshold: an answer that costs at most this is safe.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    samples: int = 2
    independent: str | None = None
    limit: int | None = None
    threshold: float = 0.0


@dataclass(frozen=True)
class Feasibility:
    """H5: which profiles and gradients are compared, and the settings of λ that are tried.

    Attributes:
        scales: multiples of λ's initial value, step and maximum.
        seeds: by which a setting is chosen.
    """

    profiles: tuple[str, ...] = ()
    gradients: tuple[str, ...] = ("leave_one_out", "tilted")
    scales: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    seeds: tuple[int, ...] = (100, 101, 102, 103, 104)


@dataclass(frozen=True)
class Study:
    """A study, resolved.

    Attributes:
        source: its file. out: its folder. ask: ε. world: of the exact world; else there is a job.
        launcher: words that each training command is appended to; none runs them here.
    """

    name: str
    source: Path
    out: Path
    seeds: tuple[int, ...]
    ask: Level
    models: tuple[Model, ...]
    world: WorldSettings | None = None
    job: TrainingJob | None = None
    evaluation: EvaluationPlan = field(default_factory=EvaluationPlan)
    feasibility: Feasibility = field(default_factory=Feasibility)
    launcher: tuple[str, ...] = ()

    def model(self, name: str) -> Model:
        """One of them by its name."""
        return next(model for model in self.models if model.name == name)

    @property
    def compared(self) -> list[Model]:
        """All but the points of the frontier, baselines first."""
        return [*self.of("baseline"), *self.of("variant")]

    def of(self, role: str) -> list[Model]:
        """Those of a role."""
        return [model for model in self.models if model.role == role]


def with_ask(profile: RiskProfile, ask: Level, multiple: float = 1.0) -> RiskProfile:
    """The profile asking that its risk fall by a multiple of ε, whatever its form.

    Of `no_worse` the fall is margin − level; the level is half of it, as in the shipped profiles.
    """
    whole, half, more = (
        replace(ask, value=float(f"{share * multiple * ask.value:.12g}")).plain() for share in (1, 0.5, 1.5)
    )
    asked = {"constraint.level": half, "constraint.margin": more}
    return profile.with_overrides(
        asked if profile.constraint.form == "no_worse" else {"constraint.level": whole}
    )


def load_study(path: Path) -> Study:
    """Read a study. Raises ProfileError with every problem, each at its place."""
    root, unread = parse(read_text(path, str(path)), str(path))
    return _SpecReader(path, root, Problems([str(path)], list(unread))).study()


class _SpecReader:
    """Reads the keys of one file; what is wrong is noted and told together."""

    def __init__(self, path: Path, root: Node, problems: Problems) -> None:
        self._path, self._root, self._problems = path, root, problems

    def study(self) -> Study:
        if not isinstance(self._root.value, dict):
            fix = f"it holds some of {', '.join(_KEYS)}"
            self._problems.note(Problem(self._root.place, "the file", "no mapping", "a study is one", fix))
            self._problems.refuse()
        for key in [key for key in self._root.keys if key not in _KEYS]:
            said, rule = "not a key of a study", f"the keys are {', '.join(_KEYS)}"
            place = self._root.keys[key].key_place
            self._problems.note(Problem(place, shown(key), said, rule, did_you_mean(key, _KEYS)))
        name = self._text(self._root, "name", self._path.stem)
        ask = self._ask()
        overrides = self._overrides()
        world = self._world()
        job = self._job()
        if (world is None) == (job is None):
            held = "both" if world else "neither"
            rule, fix = "a study holds exactly one of world and job", "write for instance job: {preset: tiny}"
            self._problems.note(Problem(self._root.place, "the file", held, rule, fix, "holds"))
        models = [*self._baselines(ask, overrides), *self._profiles(ask, overrides)]
        models += self._frontier(models, ask)
        evaluation = self._evaluation(needed=job is not None)
        feasibility = self._feasibility(models)
        seeds = self._seeds(self._root, "seeds", (1, 2, 3))
        launcher = self._launcher()
        self._problems.refuse()
        out = Path(self._text(self._root, "out", f"runs/{name}"))
        return Study(
            name,
            self._path,
            out,
            seeds,
            ask,
            tuple(models),
            world,
            job,
            evaluation,
            feasibility,
            tuple(launcher),
        )

    def _overrides(self) -> dict[str, Any]:
        """What all profiles get, once a profile has taken it."""
        held = self._mapping(self._root, "set")
        try:
            load_profile(SAFE).with_overrides(held)
        except ProfileError as error:
            for detail in error.details:
                self._problems.note(replace(detail, place=self._root.keys["set"].place))
            return {}
        return held

    def _launcher(self) -> list[str]:
        try:
            return shlex.split(self._text(self._root, "launcher", ""))
        except ValueError as error:
            rule = f"it is no command ({str(error).lower()})"
            self._problems.add(self._root.keys["launcher"], rule, "write for instance sbatch --wrap {}")
            return []

    def _ask(self) -> Level:
        node = self._root.keys.get("ask")
        if node is None:
            return Level(0.4, "spread")
        try:
            level = Level.parse(node.value)
            if level.unit != "quantile" and level.value > 0:
                return level
        except (ValueError, TypeError):
            pass
        rule = "it must be an amount above 0 by which every model's risk is to fall"
        self._problems.add(node, rule, "write for instance 20% of reference spread")
        return Level(0.4, "spread")

    def _baselines(self, ask: Level, overrides: Mapping[str, Any]) -> Iterator[Model]:
        node = self._root.keys.get("baselines")
        names = list(BASELINES)
        if node is not None:
            names = [str(one.value) for one in self._items(node)]
            for one in self._items(node):
                if one.value not in BASELINES:
                    rule = f"no baseline is called so; there are {', '.join(BASELINES)}"
                    self._problems.add(one, rule, did_you_mean(one.value, BASELINES))
        # All are measured against the start, whatever else is.
        for name in dict.fromkeys([START, *names]):
            if name not in BASELINES:
                continue
            given = dict(BASELINES[name])
            profile = load_profile(given.pop("profile")).with_overrides({**overrides, **given.pop("set", {})})
            yield Model(name, with_ask(profile, ask), "baseline", **given)

    def _profiles(self, ask: Level, overrides: Mapping[str, Any]) -> Iterator[Model]:
        taken = set(BASELINES)
        for node in self._items(self._root.keys.get("profiles")):
            plain = {"profile": node.value} if isinstance(node.value, str) else node.plain()
            if not isinstance(plain, dict) or not isinstance(plain.get("profile"), str):
                rule = "it must be a profile, or a mapping of profile, name and set"
                self._problems.add(node, rule, "write for instance {profile: cvar, set: {risk: cvar α=0.9}}")
                continue
            self._problems.unknown_keys(node, ("profile", "name", "set"))
            own = self._mapping(node, "set")
            named = plain["profile"]
            path = str(self._path.parent / named) if is_path(named) else named
            try:
                profile = load_profile(path).with_overrides({**overrides, **own})
                name = str(plain.get("name") or profile.name)
                if len(profile.constraints) > 1:
                    rule = "a study asks one fall of every model, and this profile has several constraints"
                    self._problems.add(node, rule, "name a profile of one constraint", named)
                    continue
                asked = with_ask(profile, ask)
            except ProfileError as error:
                for detail in error.details:
                    self._problems.note(Problem(node.place, node.key, named, detail.message))
                continue
            if Path(name).name != name or name.startswith("."):
                rule = "a model's runs lie in a folder of its name"
                self._problems.add(node, rule, "give this one another: name: …", shown(name))
                continue
            if name in taken:
                self._problems.add(node, "the name is taken", "give this one another: name: …", name)
                continue
            taken.add(name)
            yield Model(name, asked, "variant")

    def _frontier(self, models: list[Model], ask: Level) -> Iterator[Model]:
        node = self._section("frontier")
        if node is None:
            return
        self._problems.unknown_keys(node, ("of", "multiples"))
        known = {model.name: model for model in models if model.trained and model.fixed_dual is None}
        for one in self._items(node.keys.get("of")):
            if one.value not in known:
                rule = f"it must be one of the study's trained models: {', '.join(known)}"
                self._problems.add(one, rule, did_you_mean(one.value, known))
                continue
            model = known[one.value]
            for multiple in self._numbers(node.keys.get("multiples"), (0.5, 1.5)):
                profile = with_ask(model.profile, ask, multiple)
                yield replace(
                    model,
                    name=f"{model.name}×{multiple:g}",
                    profile=profile,
                    role="frontier",
                    multiple=multiple,
                )

    def _world(self) -> WorldSettings | None:
        node = self._section("world")
        if node is None:
            return None
        self._problems.unknown_keys(node, [one.name for one in fields(WorldSettings)])
        kinds = {}
        named = node.keys["kinds"].keys if "kinds" in node.keys else {}
        for name, held in named.items():
            self._problems.unknown_keys(held, [one.name for one in fields(Kind)])
            given = self._counts(held, Kind)
            needed = "count", "share", "reward", "cost"
            if missing := [key for key in needed if key not in held.keys]:
                self._problems.add(held, f"a kind of answers has {', '.join(missing)} too", value="a mapping")
            if given.keys() >= set(needed):
                kinds[name] = Kind(**given)
        if len(named) < 2:
            self._problems.add(node, "it must hold kinds, two at least", value="a world")
        return WorldSettings(kinds, **self._counts(node, WorldSettings))

    def _job(self) -> TrainingJob | None:
        node = self._section("job")
        if node is None:
            return None
        self._problems.unknown_keys(node, [one.name for one in fields(TrainingJob)])
        config = self._text(node, "config", "")
        return TrainingJob(
            self._text(node, "preset", "") or None,
            str(self._path.parent / config) if config else None,
            self._mapping(node, "flags"),
        )

    def _evaluation(self, *, needed: bool) -> EvaluationPlan:
        node = self._section("evaluation")
        if node is None:
            if needed:
                rule = "models of a job are compared on prompts; name them"
                fix = "write evaluation: {held-out: FILE.jsonl}"
                self._problems.note(Problem(self._root.place, "evaluation", "missing", rule, fix))
            return EvaluationPlan()
        self._problems.unknown_keys(node, _EVALUATION)
        names = [key for key in ("held-out", "other") if key in node.keys]
        prompts: dict[str, str] = {key: self._file(node, key) for key in names}
        if needed and "held-out" not in prompts:
            self._problems.add(
                node, "it must name held-out prompts", "write held-out: FILE.jsonl", "a mapping"
            )
        independent = self._file(node, "independent") if "independent" in node.keys else None
        return EvaluationPlan(prompts, independent=independent, **self._counts(node, EvaluationPlan))

    def _feasibility(self, models: list[Model]) -> Feasibility:
        node = self._section("feasibility")
        if node is None:
            return Feasibility()
        self._problems.unknown_keys(node, [one.name for one in fields(Feasibility)])
        known = [model.name for model in models if model.role == "variant"]
        named = self._items(node.keys.get("profiles"))
        for one in named:
            if one.value not in known:
                rule = f"it must be one of the study's profiles: {', '.join(known)}"
                self._problems.add(one, rule, did_you_mean(one.value, known))
        gradients = [str(one.value) for one in self._items(node.keys.get("gradients"))]
        usual = Feasibility()
        return Feasibility(
            tuple(str(one.value) for one in named),
            tuple(gradients) or usual.gradients,
            tuple(self._numbers(node.keys.get("scales"), usual.scales)),
            self._seeds(node, "seeds", usual.seeds),
        )

    def _seeds(self, owner: Node, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        node = owner.keys.get(key)
        if node is None:
            return default
        if isinstance(node.value, int) and not isinstance(node.value, bool) and node.value > 0:
            return tuple(range(node.value))
        held = node.plain()
        if isinstance(held, list) and held and all(type(one) is int and one >= 0 for one in held):
            return tuple(dict.fromkeys(held))
        self._problems.add(node, "it must be a number of seeds, or a list of them", "write for instance 5")
        return default

    def _items(self, node: Node | None) -> list[Node]:
        if node is None:
            return []
        if isinstance(node.value, list):
            return node.value
        self._problems.add(node, "it must be a list", f"write {node.key}: [{node.value}]")
        return []

    def _numbers(self, node: Node | None, default: tuple[float, ...]) -> list[float]:
        found = []
        for one in self._items(node):
            if isinstance(one.value, int | float) and not isinstance(one.value, bool) and one.value > 0:
                found.append(float(one.value))
            else:
                self._problems.add(one, "it must be a number above 0", "write for instance 0.5")
        return found or list(default)

    def _counts(self, owner: Node, kind: type) -> dict[str, Any]:
        """The numbers of a mapping, by the number fields of a dataclass."""
        found = {}
        types = {one.name: str(one.type) for one in fields(kind)}
        for key, node in owner.keys.items():
            if not types.get(key, "").startswith(("int", "float")):
                continue
            whole, least, positive = types[key].startswith("int"), _LEAST.get(key, 0), key in _POSITIVE
            value = node.value
            number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if number and math.isfinite(value) and (value > 0 if positive else value >= least):
                found[key] = value
                continue
            size = " above 0" if positive else f" of at least {least}" if math.isfinite(least) else ""
            self._problems.add(node, f"it must be a {'whole ' if whole else ''}number{size}")
        return found

    def _section(self, key: str) -> Node | None:
        """A mapping of the file, None where there is none; something else in its place is noted."""
        node = self._root.keys.get(key)
        if node is not None and not isinstance(node.value, dict):
            self._problems.add(node, "it must be a mapping of keys", f"write {key}: {{…}}")
        return node

    def _mapping(self, owner: Node, key: str) -> dict[str, Any]:
        node = owner.keys.get(key)
        if node is None:
            return {}
        held = node.plain()
        if not isinstance(held, dict):
            self._problems.add(
                node, "it must be a mapping of dotted keys", f"write {key}: {{dual.step: 0.2}}"
            )
            return {}
        return {name: _placed(value) for name, value in _flat(held)}

    def _text(self, owner: Node, key: str, default: str) -> str:
        node = owner.keys.get(key)
        if node is None:
            return default
        if not isinstance(node.value, str):
            self._problems.add(node, "it must be a text")
            return default
        return node.value

    def _file(self, owner: Node, key: str) -> str:
        """A path that starts from the study's folder; what begins with @ stands for a prepared file."""
        text = self._text(owner, key, "")
        relative = is_file_name(text) and not text.startswith(("@", "http://", "https://"))
        return str(self._path.parent / text) if relative else text


def is_file_name(text: str) -> bool:
    """Whether it names a file rather than a data set or an address."""
    return Path(text).suffix in (".jsonl", ".json", ".csv", ".parquet", ".py")


def _placed(value: Any) -> Any:
    """The path that an ``@`` value stands for, but for those in a run's folder."""
    prepared = isinstance(value, str) and value.startswith("@") and not value.startswith("@out/")
    return place(value, Path()) if prepared else value


def _flat(held: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys as dotted ones."""
    for key, value in held.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
