"""The formats of tables: JSON lines, JSON, CSV, each also as .gz or .xz, and Parquet; and their single cells.

pandas would be shorter, and wrong here: it reads the answers ``NA`` and ``null`` as missing values, and
forgets the lines. pyarrow is imported here alone, and only for Parquet."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import lzma
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from openrlhf_rad.errors import DataError, EnvironmentProblem
from openrlhf_rad.files import write_atomically


def finite(value: object, *, text: bool = False) -> float | None:
    """The finite number that a value is; None for anything else, true and false among it.

    Args:
        text: whether a text may spell the number, as all of CSV does; Python's ``1_000`` is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (not text or "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):  # a whole number of hundreds of digits overflows
        return None
    return number if math.isfinite(number) else None


def shown(value: object) -> str:
    """A value as JSON would write it, shortened."""
    if value == "":
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    words = repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
    return words if len(words) <= 40 else f"{words[:39]}…"


#: What :func:`as_text` takes.
SCALARS = (str, int, float, bool)


def as_text(value: object) -> str | None:
    """A scalar as the text that names it, alike in every format: 1 and 1.0 are ``1``, true is ``true``.

    None for a gap: null, an empty text, or NaN, which pandas writes for one.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.17g}"
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


#: (line on which it begins, of JSON its number, values by column).
Record = tuple[int, dict[str, Any]]


def json_lines(path: Path) -> Iterator[Record]:
    """A record a line; empty lines are skipped. Raises DataError."""
    with _opened(path) as file:
        for number, line in enumerate(_lines(file, path), 1):
            if line.strip():
                yield number, _mapping(_parse(line, path, number), f"{path}:{number}")


def json_list(path: Path) -> Iterator[Record]:
    """The records of a file that holds one list, or a list for each id as HarmBench's completions.

    JSON lines, which hubs publish by that suffix too, are read as such.

    Raises:
        DataError: it holds anything else.
    """
    with _opened(path) as file:
        content = _decode(file.read(), path, 1).removeprefix("\ufeff")
    if _is_lines(content):
        data = [
            _parse(line, path, number) for number, line in enumerate(content.split("\n"), 1) if line.strip()
        ]
    else:
        data = _parse(content, path, 1)
    if isinstance(data, dict) and data and all(_is_list_of_rows(held) for held in data.values()):
        data = [{"BehaviorID": name, **row} for name, held in data.items() for row in held]
    if not isinstance(data, list):
        raise DataError(f"{path}: the file holds {shown(data)}; it must hold a list of rows, or be .jsonl")
    for number, item in enumerate(data, 1):
        yield number, _mapping(item, f"{path}: row {number}")


def separated(path: Path) -> Iterator[Record]:
    """The records of CSV, of TSV by its suffix, whose cells are all texts. Raises DataError."""
    csv.field_size_limit(2**31 - 1)  # an answer may be longer than the default of 128 KB
    with _opened(path) as file:
        tabs = ".tsv" in (suffix.lower() for suffix in path.suffixes)
        reader = csv.reader(_lines(file, path), delimiter="\t" if tabs else ",", strict=True)
        header: list[str] | None = None
        begin = 1
        try:
            for cells in reader:
                if header is None:
                    header = _header(cells, f"{path}:{begin}")
                elif cells and len(cells) != len(header):
                    raise DataError(
                        f"{path}:{begin}: the row has {len(cells)} cells and the header {len(header)}; they"
                        " must be as many; quote cells that hold separators or line breaks"
                    )
                elif cells:
                    yield begin, dict(zip(header, cells, strict=True))
                begin = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}:{begin}: the row is not CSV ({error}); it may be cut off, or lack quotes; mend it or"
                " remove it"
            ) from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    openers: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
    try:
        with openers.get(path.suffix.lower(), open)(path, "rb") as file:
            yield _utf8(file, path)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: the compressed file is broken ({error}); copy it again") from None


def _utf8(file: Any, path: Path) -> IO[bytes]:
    """A file in UTF-16, as spreadsheets write it with a mark, as UTF-8; any other as it is."""
    if file.peek(2)[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return cast("IO[bytes]", file)
    try:
        return io.BytesIO(file.read().decode("utf-16").encode())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-16; save the file as UTF-8") from None


def _lines(file: IO[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        text = _decode(line, path, number)
        yield text.removeprefix("\ufeff") if number == 1 else text


def _decode(content: bytes, path: Path, first_line: int) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        raise DataError(f"{path}:{line}:{column}: the byte is not UTF-8; save the file as UTF-8") from None


def _parse(content: str, path: Path, line: int) -> Any:
    try:
        # An error at the end is of this line, not of the next.
        return _DECODER.decode(content.rstrip())
    except _Twice as error:
        raise DataError(f"{path}:{line}: the key {error} stands twice in a row; remove one") from None
    except json.JSONDecodeError as error:
        place = f"{path}:{line + error.lineno - 1}:{error.colno}"
        cut_off = "" if content.endswith("\n") else "; it may be cut off"
        raise DataError(f"{place}: it is not JSON ({error.msg}){cut_off}; mend it or remove it") from None
    except RecursionError:
        raise DataError(f"{path}:{line}: JSON nested too deeply to be a row; mend it or remove it") from None


def _is_lines(content: str) -> bool:
    """Whether there are several lines and the first is a whole record."""
    first, _, rest = content.strip().partition("\n")
    if not (first.startswith("{") and rest.strip()):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (json.JSONDecodeError, RecursionError):
        return False


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


class _Twice(Exception):
    """A key that a mapping has twice; the last would count without a word."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(next(key for key in keys if keys.count(key) > 1))
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _mapping(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f'{place}: the row is {shown(value)}; it must be a mapping such as {{"prompt": …, "cost": 0.5}};'
            " mend it or remove it"
        )
    return value


def _header(cells: list[str], place: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{place}: the header names {', '.join(twice)} twice; every column needs its own name; rename one"
        )
    return names


def parquet_names(path: Path) -> list[str]:
    """The columns; those of a column of structs also as ``outer.inner``. Raises DataError."""
    with _parquet(path) as file:
        return [
            name
            for field in file.schema_arrow
            for name in (field.name, *(f"{field.name}.{inner.name}" for inner in _members(field)))
        ]


def parquet_parts(
    path: Path, wanted: Sequence[str] | None, size: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(rows, {name: pyarrow array}), ``size`` rows at a time; absent columns are left out."""
    with _parquet(path) as file:
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


def arrow(path: Path, instead: str = "") -> tuple[Any, Any]:
    """pyarrow and its Parquet. Raises EnvironmentProblem where it is not installed; instead: another way."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - a fifth of a second that other formats need not wait
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise EnvironmentProblem(
            f"{path}: Parquet needs pyarrow, which is not installed;"
            f' pip install "openrlhf-rad[data]"{instead}'
        ) from None
    return pa, pq


def write_parquet(path: Path, columns: Mapping[str, Any], compression: str = "snappy") -> None:
    """Write a table, whole or not at all; name → values, one a row. Raises EnvironmentProblem."""
    pa, pq = arrow(path)
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer, compression=compression)
    write_atomically(path, buffer.getvalue())


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    pa, pq = arrow(path, ", or save the table as .jsonl or .csv")
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: it is not a complete Parquet file ({str(error).splitlines()[0]}); write it or"
            " copy it again"
        ) from None
