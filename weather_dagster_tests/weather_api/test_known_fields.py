"""What is documented of each endpoint, against what the contracts read."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydantic import AliasPath, BaseModel

from weather_dagster.hours import HourRange
from weather_dagster.weather_api.known_fields import KNOWN_FIELDS
from weather_dagster.weather_api.openweather_contracts import (
    AirPollution,
    CurrentWeather,
    ForecastStep,
    OneCallStep,
    OneCallWeather,
    Weather,
)
from weather_dagster.weather_api.providers import known_endpoints
from weather_dagster_tests.test_quarantine import LYON


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
        (OneCallWeather, "/data/3.0/onecall/timemachine"),
        (OneCallStep, "/data/4.0/onecall/timeline/1h"),
    ],
)
def test_every_field_that_a_contract_reads_is_a_known_one(contract: type[BaseModel], endpoint: str) -> None:
    assert set(read_fields(contract)) - KNOWN_FIELDS[endpoint] == set()


def test_the_fields_of_every_endpoint_are_declared() -> None:
    assert {endpoint.label for endpoint in known_endpoints()} == set(KNOWN_FIELDS)


def test_every_variable_that_is_asked_of_open_meteo_is_a_known_field() -> None:
    hour = datetime(2026, 3, 1, tzinfo=UTC)
    asked = {
        (endpoint.label, variable)
        for endpoint in known_endpoints()
        if "/v1/" in endpoint.label
        for variable in str(endpoint.query((LYON,), HourRange(hour, hour))["hourly"]).split(",")
    }
    assert len(asked) > 50
    assert [(label, variable) for label, variable in asked if variable not in KNOWN_FIELDS[label]] == []
