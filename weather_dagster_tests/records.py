"""Bronze records by hand, for tests that need no provider."""

from collections.abc import Sequence

import pyarrow as pa

from weather_dagster.datasets import Dataset


def to_arrow(dataset: Dataset, rows: Sequence[Sequence[object]]) -> pa.Table:
    """What an adapter would hand over: tuples in the order of ``record_columns``, instants as unix seconds."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in dataset.record_columns)
    arrays = [
        pa.array(values, pa.int64()).cast(field.type)
        if pa.types.is_timestamp(field.type)
        else pa.array(values, field.type)
        for values, field in zip(columns, dataset.arrow_schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=dataset.arrow_schema)
