"""Parquet tables, in batches of columns. pyarrow is imported here alone, and only for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import DataError, EnvironmentProblem


def names(path: Path) -> list[str]:
    """The columns; those of a column of structs also as ``outer.inner``. Raises DataError."""
    with _opened(path) as file:
        return [
            name
            for field in file.schema_arrow
            for name in (field.name, *(f"{field.name}.{inner.name}" for inner in _members(field)))
        ]


def parts(path: Path, wanted: Sequence[str] | None, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(rows, {name: pyarrow array}), ``size`` rows at a time; absent columns are left out."""
    with _opened(path) as file:
        fields = {field.name: field for field in file.schema_arrow}
        held = list(fields) if wanted is None else [name for name in wanted if _there(name, fields)]
        for part in file.iter_batches(batch_size=size, columns=held, use_threads=False):
            if part.num_rows:
                yield part.num_rows, {name: _column(part, name, fields) for name in held}


def _there(name: str, fields: dict[str, Any]) -> bool:
    outer, _, inner = name.partition(".")
    return name in fields or any(member.name == inner for member in _members(fields.get(outer)))


def _members(field: Any) -> list[Any]:
    """The fields of a column of structs."""
    if field is None or not str(field.type).startswith("struct<"):
        return []
    return [field.type.field(place) for place in range(field.type.num_fields)]


def _column(part: Any, name: str, fields: dict[str, Any]) -> Any:
    if name in fields:
        return part.column(name)
    outer, _, inner = name.partition(".")
    held = part.column(outer)
    import pyarrow.compute  # noqa: PLC0415 - see the module

    # Unlike StructArray.field it is null where the whole struct is.
    return pyarrow.compute.struct_field(held, inner)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - a fifth of a second that other formats need not wait
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise EnvironmentProblem(
            f"{path}: Parquet needs pyarrow, which is not installed; pip install"
            ' "openrlhf-rad[data]", or save the table as .jsonl or .csv'
        ) from None
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: it is no whole Parquet file ({str(error).splitlines()[0]}); write it or copy it again"
        ) from None
