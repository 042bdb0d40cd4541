"""What is documented of each endpoint, against what the contracts read and what the simulator sends."""

from collections.abc import Iterator

import pytest
from pydantic import AliasPath, BaseModel

from weather_dagster.weather_api.known_fields import KNOWN_FIELDS
from weather_dagster.weather_api.openweather import plans
from weather_dagster.weather_api.openweather_contracts import AirPollution, CurrentWeather, ForecastStep, Weather


def read_fields(contract: type[BaseModel]) -> Iterator[str]:
    """Paths that a contract reads."""
    for name, field in contract.model_fields.items():
        alias = field.validation_alias
        yield ".".join(str(part) for part in alias.path if part != 0) if isinstance(alias, AliasPath) else name


@pytest.mark.parametrize(
    ("contract", "endpoint"),
    [
        (Weather, "/data/2.5/history/city"),
        (CurrentWeather, "/data/2.5/weather"),
        (ForecastStep, "/data/2.5/forecast"),
        (AirPollution, "/data/2.5/air_pollution/history"),
    ],
)
def test_every_field_that_a_contract_reads_is_a_known_one(contract: type[BaseModel], endpoint: str) -> None:
    assert set(read_fields(contract)) - KNOWN_FIELDS[endpoint] == set()


def test_the_fields_of_every_endpoint_are_declared() -> None:
    assert {e.label for plan in plans(None).values() for e in plan.endpoints} <= set(KNOWN_FIELDS)
