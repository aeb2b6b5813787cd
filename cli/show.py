"""What ``--dry-run`` prints: the profile, its weights, cost and reward, and the command."""

from __future__ import annotations

import numpy as np

from openrlhf_rad.errors import RadError
from openrlhf_rad.judging.rating import Rater
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.naming import prefixes
from openrlhf_rad.plugin.compatibility import settle_loss
from openrlhf_rad.profile import RiskProfile, named_costs
from openrlhf_rad.profile.addresses import sealed

from . import flags as flag
from . import machine, prompts
from .plan import Plan

_BARS = "▁▂▃▄▅▆▇█"
#: OpenRLHF's default for a prompt and its answer together, in tokens.
_MAX_LEN = 2048
#: Particles of the vector that is printed whole.
_SHOWN = 20


def dry_run(plan: Plan) -> str:
    """The plan as text; the command stands last, ready for a shell."""
    profile, _ = sealed(plan.profile)
    preset = plan.preset.name if plan.preset else "none; the flags are the user's alone"
    sections = {
        f"profile {profile.name} (hash {profile.hash[:12]})": profile.to_yaml().rstrip(),
        "weights": weights(plan),
        "cost": "\n".join([costs(profile), *judged(plan)]),
        "reward": reward(plan),
        "loss": loss(plan),
        "preset": preset,
        "folder": str(plan.out),
        **({"resumes from": str(plan.checkpoint)} if plan.checkpoint else {}),
        "command": plan.shell_command,
    }
    return "\n\n".join(f"# {title}\n{text}" for title, text in sections.items())


def weights(plan: Plan) -> str:
    """Each spectrum as shares of the worst costs, a sketch, and its vector for 20 particles."""
    parts = plan.profile.constraints
    where = prefixes([one.name for one in parts])
    return "\n\n".join(f"{where[one.name]}{_weights(one.risk, plan.particles)}" for one in parts)


def costs(profile: RiskProfile) -> str:
    """The sources of costs; each with its name where there are several."""
    named = named_costs(profile)
    lines = {name: f"{cost.kind}: {cost.location}" if cost else "none" for name, cost in named.items()}
    return "\n".join(f"{prefix}{lines[name]}" for name, prefix in prefixes(named).items())


def judged(plan: Plan) -> list[str]:
    """What the judges among the costs will be asked at most, a line each; none where they cannot be."""
    found = []
    for cost in named_costs(plan.profile).values():
        if cost is None or cost.kind != "judge":
            continue
        try:
            rater = Rater.of(cost.settings)
        except RadError:
            continue  # told among the errors
        steps, heldout = prompts.steps(plan), prompts.heldout(plan)
        answers = None
        if steps is not None and heldout is not None:
            answers = plan.profile.reference_samples + steps * plan.samples + 2 * heldout
        tokens = flag.whole(plan.flags, "data.max_len", _MAX_LEN)
        found.append(rater.asked(cost.location, answers, tokens))
    return found


def loss(plan: Plan) -> str:
    """The loss, chosen by the flags where the user has not."""
    options, told = settle_loss(machine.read(plan), plan.options)
    return (
        told or {"reinforce": "REINFORCE, the paper's", "ppo": "OpenRLHF's clipped loss"}[str(options.loss)]
    )


def _weights(spectrum: Spectrum, n: int) -> str:
    shares = [
        f"{1 - float(spectrum.cumulative(1 - worst / 100)):.1%} on the worst {worst} %"
        for worst in (1, 5, 10)
    ]
    weight_n = spectrum.weights(_SHOWN)
    height_n = np.round(weight_n / weight_n.max() * (len(_BARS) - 1)).astype(int)
    sketch = "".join(_BARS[height] for height in height_n)
    return "\n".join(
        [
            f"{spectrum}: {spectrum.formula}",
            f"{n} particles; share of the weight: {', '.join(shares)}",
            f"best {sketch} worst, in {_SHOWN} bins of equal probability",
            " ".join(f"{weight:.4g}" for weight in weight_n),
        ]
    )


def reward(plan: Plan) -> str:
    """The reward's source, as OpenRLHF's flags name it."""
    sources = ("reward.remote_url", "reward.model_name_or_path", "train.agent_func_path")
    given = [f"{name}: {flag.value(plan.flags, name)}" for name in sources if flag.value(plan.flags, name)]
    return ", ".join(given) or "none"
