"""Our errors as Dagster failures: the message, and no traceback of ours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from weather_dagster.errors import WeatherError


@contextmanager
def failing_clearly(metadata: Mapping[str, dg.MetadataValue] | None = None) -> Iterator[None]:
    """Turn a ``WeatherError`` into a failure of the step whose description is the error's text."""
    try:
        yield
    except WeatherError as error:
        raise dg.Failure(str(error), metadata=metadata) from None
