"""What the options ask for: one resolved profile, one set of flags, one folder, one command."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openrlhf_rad.errors import ConfigError, did_you_mean
from openrlhf_rad.jobs.presets import PRESETS, Preset, place
from openrlhf_rad.plugin.arguments import RadOptions, overrides, parse
from openrlhf_rad.profile import RiskProfile, load_profile, named_costs
from openrlhf_rad.runs.checkpoints import Checkpoint, newest

from . import flags as flag
from .flags import Config, Flags, load
from .train import TrainOptions

MODEL = "actor.model_name_or_path"
#: Heldout prompts, see openrlhf_rad.plugin.arguments; the other flags of RAD keep their names too.
HELDOUT = "rad.heldout"
#: OpenRLHF's own defaults, for flags that the checks need and a command may leave out.
BATCH, SAMPLES = ("rollout.batch_size", 1024), ("rollout.n_samples_per_prompt", 1)


@dataclass(frozen=True)
class Plan:
    """One run, resolved.

    Attributes:
        profile: overrides applied, with the cost's source.
        preset: None where the user named a model.
        flags: OpenRLHF's and RAD's own (``rad.*``), without those that rad-train adds.
        out: the run's folder, absolute.
    """

    profile: RiskProfile
    preset: Preset | None
    flags: Flags
    out: Path

    @property
    def profile_file(self) -> Path:
        """The file that the training process reads."""
        return self.out / "profile.resolved.yaml"

    @property
    def arguments(self) -> Flags:
        """All flags of ``python -m openrlhf_rad``, RAD's own first."""
        own: Flags = {"rad.profile": [str(self.profile_file)], "rad.out": [str(self.out)]}
        return own | self._own | self.flags

    @property
    def options(self) -> RadOptions:
        """RAD's options as the training process will have them."""
        options, _ = parse(flag.to_words(self._own), self.profile)
        assert options is not None  # the profile is there
        return options

    @property
    def words(self) -> list[str]:
        """OpenRLHF's part of the command."""
        return flag.to_words({n: values for n, values in self.flags.items() if not n.startswith("rad.")})

    @property
    def _own(self) -> Flags:
        return {name: values for name, values in self.flags.items() if name.startswith("rad.")}

    @property
    def command(self) -> list[str]:
        """The command of the training process."""
        return [sys.executable, "-m", "openrlhf_rad", *flag.to_words(self.arguments)]

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What the run resumes from; None where it begins."""
        path = flag.value(self.flags, "ckpt.path")
        return newest(Path(path)) if path and "ckpt.load_enable" in self.flags else None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the preset adds to the user's, where the user has not set them."""
        wanted = self.preset.environment if self.preset else {}
        return {name: value for name, value in wanted.items() if name not in os.environ}

    @property
    def shell_command(self) -> str:
        """The command for a shell, one flag a line."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        first = " ".join([*variables, shlex.quote(sys.executable), "-m openrlhf_rad"])
        lines = [shlex.join(group) for group in flag.groups(self.arguments)]
        return " \\\n  ".join([first, *lines])

    @property
    def samples(self) -> int:
        """Samples of a rollout."""
        return flag.whole(self.flags, *BATCH) * flag.whole(self.flags, *SAMPLES)

    @property
    def particles(self) -> int:
        """Particles of a step."""
        return self.profile.transport.particles or self.samples

    @property
    def assets(self) -> list[str]:
        """The files prepared for the preset that this run reads; none that the user has replaced."""
        used = {words[0] for words in self.flags.values() if words}
        used |= {cost.location for cost in named_costs(self.profile).values() if cost}
        return [path for path in self.preset.assets if path in used] if self.preset else []


def make(options: TrainOptions) -> Plan:
    """Resolve the options.

    Raises:
        ProfileError: a profile, or an override of it, that is not valid.
        ConfigError: flags or a file of flags that are not valid; every problem of one kind at once.
    """
    config = load(options.config) if options.config else Config({}, {})
    given = flag.from_words(options.words or ())
    _check(config, given)
    preset = _preset(options, flag.merge(config.flags, given))
    profile = _profile(options, preset)
    out = (options.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{profile.name}").absolute()
    seed: Flags = {} if options.seed is None else {"train.seed": [str(options.seed)]}
    accepted: Flags = {"rad.accept_profile_change": []} if options.accept_profile_change else {}
    merged = flag.merge(preset.words(out) if preset else {}, config.flags, seed, accepted, given)
    return Plan(_with_cost(profile, preset, out), preset, merged, out)


def of_command(argv: Sequence[str], options: RadOptions) -> Plan:
    """What a command of ``python -m openrlhf_rad`` asks for.

    Raises:
        ConfigError: flags that are not valid, every problem at once.
    """
    given = flag.from_words(argv)
    given.pop("rad.dry_run", None)
    plain = {name: values for name, values in given.items() if name not in flag.OWN}
    if problems := flag.problems(plain, {}):
        raise ConfigError("\n".join(problem.removeprefix("after --: ") for problem in problems))
    return Plan(options.profile, None, flag.merge(given), options.out)


def _check(config: Config, given: Flags) -> None:
    problems = flag.problems(config.flags, config.places) + flag.problems(given, {})
    rad = {name: words for name, words in flag.merge(config.flags, given).items() if name.startswith("rad.")}
    try:
        parse(flag.to_words(rad), load_profile("uniform"))
    except ConfigError as error:
        problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(problems))


def _preset(options: TrainOptions, user: Flags) -> Preset | None:
    if options.preset is None:
        return None if MODEL in user else PRESETS["default"]
    if options.preset not in PRESETS:
        hint = did_you_mean(options.preset, PRESETS)
        raise ConfigError(
            f"--preset is {options.preset}; it must be one of {', '.join(PRESETS)}"
            + (f"; {hint}" if hint else "")
        )
    return PRESETS[options.preset]


def _profile(options: TrainOptions, preset: Preset | None) -> RiskProfile:
    name = options.profile or (preset.profile if preset else None)
    if name is None:
        raise ConfigError("no risk profile is named; add --profile FILE|NAME, for instance --profile medical")
    return load_profile(name).with_overrides(overrides(options.overrides or []))


def _with_cost(profile: RiskProfile, preset: Preset | None, out: Path) -> RiskProfile:
    if None not in named_costs(profile).values():
        return profile
    if preset is None:  # the checks before the start will say it
        return profile
    kind, location = preset.cost
    return profile.with_overrides({f"cost.{kind}": place(location, out)})
