"""The one reader of tables: JSON lines, JSON, CSV, TSV and Parquet, every row with its place in the file."""

from openrlhf_rad.tables.formats import finite, shown
from openrlhf_rad.tables.rows import (
    FORMATS,
    PACKED,
    Batch,
    Row,
    batches,
    column_names,
    is_table,
    numbers_are_texts,
    pick,
    place,
    rows,
)

__all__ = [
    "FORMATS",
    "PACKED",
    "Batch",
    "Row",
    "batches",
    "column_names",
    "finite",
    "is_table",
    "numbers_are_texts",
    "pick",
    "place",
    "rows",
    "shown",
]
