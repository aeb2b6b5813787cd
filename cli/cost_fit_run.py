"""What ``rad cost fit`` does once its options are read."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_rad.data.labels import Labels, label_columns, load_labels
from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.files import explained
from openrlhf_rad.plugin.compatibility import missing
from openrlhf_rad.progress import bars
from openrlhf_rad.words import with_interval

from .options import numbers
from .prompt_files import conditions
from .terminal import refuse_overwriting

if TYPE_CHECKING:
    from .cost import FitOptions, LabelOptions


def main(options: FitOptions) -> None:
    """Read the labels, fit, write, and say what the cost is worth. Raises RadError."""
    if options.template is not None and options.template.count("{}") != 1:
        raise ConfigError(
            f"--template is {options.template!r}; it must hold {{}} once, where the words of the prompt go"
        )
    refuse_overwriting(options.out / "config.json", force=options.force)
    if problems := missing("torch", "transformers"):
        raise EnvironmentProblem("\n".join(problems))
    labels = labels_of(options)
    print(f"{options.labels}: {described(labels)}", file=sys.stderr)
    from openrlhf_rad.jobs.prepare import silence_libraries

    silence_libraries()
    from openrlhf_rad.fitting import cost, states

    cost.check(labels, options.labels)
    layers = states.depth(options.model, options.layers)
    plan = cost.FitSettings(
        options.model,
        layers,
        options.template and options.template.replace("\\n", "\n"),
        options.prompt_tokens,
        options.answer_tokens,
        options.weak,
    )
    with explained(options.out, "nothing was written"):
        options.out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{options.out.name}.", dir=options.out.parent))
    try:
        with bars(transient=True) as bar:
            task = bar.add_task(f"reading {layers} layers of {options.model}", total=1.0)
            report = cost.build(labels, plan, folder, lambda share: bar.update(task, completed=share))
        folder.chmod(0o755)
        shutil.rmtree(options.out, ignore_errors=True)
        folder.rename(options.out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(told(report, options.out)))


def labels_of(options: LabelOptions) -> Labels:
    """The labelled answers that the options name. Raises RadError."""
    return load_labels(
        options.labels,
        columns=label_columns(options.column or ()),
        harmful=options.harmful,
        scale=_scale(options.scale),
        shape=options.shape,
        where=conditions(options.where or []),
        config=options.config,
        split=options.split,
    )


def described(labels: Labels) -> str:
    """How many answers of which kind."""
    kinds = Counter(
        "compared only" if e.harm is None else "harmful" if e.harm >= 0.5 else "harmless"
        for e in labels.examples
    )
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    prompts = len({e.prompt for e in labels.examples})
    return f"{len(labels.examples)} answers to {prompts} prompts ({counts}), {len(labels.pairs)} pairs"


def told(report: Mapping[str, Any], out: Path) -> list[str]:
    """What a cost is worth, a line a measure, and what to do with it."""
    held = report["held_out"]
    model = f"{report['layers']} layers of {report['model']}"
    lines = [f"{out}: a cost of {model}; on prompts left out of the fit:"]
    words = {
        "pair_accuracy": "of the pairs of answers to one prompt in people's order",
        "auc": "of all pairs",
    }
    for name, what in words.items():
        if name in held:
            length = with_interval(held[f"{name}_of_length"])
            lines.append(f"  {with_interval(held[name])} {what}; answer length: {length}")
    path = shlex.quote(str(out))
    lines.append(f"next: rad cost check LABELS --cost {path}; in a profile: cost: {{model: {path}}}")
    return lines


def _scale(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, high = numbers(text, 2) or (0.0, 0.0)
    if not low < high:
        raise ConfigError(f"--scale is {text}; it must be two numbers LOW,HIGH, LOW the smaller; write 1,5")
    return low, high
