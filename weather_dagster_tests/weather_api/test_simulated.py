"""The client and the simulator together, in process: whole ranges, repeated fetches, and faults."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from weather_dagster.datasets import AIR_QUALITY, DATASETS, FORECASTS, OBSERVATIONS, Dataset, RejectionReason
from weather_dagster.errors import (
    AccountRefused,
    MalformedAnswer,
    QuotaExceeded,
    RequestRefused,
    TransientProviderError,
)
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import Location, load_locations
from weather_dagster.settings import RECORDED_LOCATIONS, Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.weather_api.api import Fetched, WeatherApi
from weather_dagster_tests.weather_api.answers import LYON, NOW, THIS_HOUR, hours_ago
from weather_dagster_tests.weather_api.provider_apps import QUICK, api_of, fetch_all

PLACES = load_locations()
TWO_DAYS = hours_ago(47)


def fetch(
    dataset: Dataset,
    *faults: Fault,
    hours: HourRange = TWO_DAYS,
    places: Sequence[Location] = PLACES[:2],
    plan: str = "simulator",
) -> Fetched:
    app = create_app(faults=Faults(faults), clock=NOW.timestamp)
    return fetch_all(api_of(app, plan=plan), dataset, places, hours)


def hashes(fetched: Fetched, dataset: Dataset) -> dict[tuple[object, ...], str]:
    return {tuple(row[n] for n in dataset.version_key): row["payload_hash"] for row in fetched.records.to_pylist()}


def hours_of(records: pa.Table, place: str, column: str) -> list[datetime]:
    return sorted(set(records.filter(pc.equal(records["location_id"], place))[column].to_pylist()))


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_every_place_and_hour_of_a_range_arrives(dataset: Dataset) -> None:
    fetched = fetch(dataset)
    for place in PLACES[:2]:
        assert hours_of(fetched.records, place.id, dataset.partition_column) == list(TWO_DAYS)
    assert fetched.records.num_rows == 2 * 48 * (40 if dataset is FORECASTS else 1)
    assert fetched.rejections == []


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_fetching_again_gives_the_same_hashes(dataset: Dataset) -> None:
    first = hashes(fetch(dataset), dataset)
    assert first.items() < hashes(fetch(dataset, hours=hours_ago(60)), dataset).items()
    assert first == hashes(fetch(dataset, Fault(kind="reversed"), Fault(kind="duplicates")), dataset)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_duplicates_add_no_row(dataset: Dataset) -> None:
    assert fetch(dataset, Fault(kind="duplicates")).records.num_rows == fetch(dataset).records.num_rows


def test_a_correction_changes_the_hash_of_its_reading_alone() -> None:
    before = hashes(fetch(OBSERVATIONS), OBSERVATIONS)
    hour = int(TWO_DAYS.first.timestamp())
    after = hashes(fetch(OBSERVATIONS, Fault(kind="patch", hours=(hour,), values={"main.humidity": 1})), OBSERVATIONS)
    changed = [key for key in before if before[key] != after[key]]
    assert [key[2] for key in changed] == [TWO_DAYS.first] * 2


def test_dropped_hours_are_missing_and_the_others_there() -> None:
    dropped = [TWO_DAYS.first + i * HOUR for i in (0, 5)]
    fetched = fetch(OBSERVATIONS, Fault(kind="drop", hours=tuple(int(h.timestamp()) for h in dropped)))
    assert hours_of(fetched.records, PLACES[0].id, "valid_hour_utc") == [h for h in TWO_DAYS if h not in dropped]


def test_kelvin_in_a_series_is_turned_away_value_by_value() -> None:
    fetched = fetch(OBSERVATIONS, Fault(kind="kelvin"), places=PLACES[:1])
    assert fetched.records["temperature_c"].null_count == fetched.records.num_rows == 48
    assert fetched.records["humidity_pct"].null_count == 0
    temperatures = [r for r in fetched.rejections if r.field == "temperature_c"]
    assert len(temperatures) == 48
    assert {r.reason for r in fetched.rejections} == {RejectionReason.IMPLAUSIBLE_VALUE}


@pytest.mark.parametrize(
    ("dataset", "plan"), [(FORECASTS, "simulator"), (AIR_QUALITY, "simulator"), (OBSERVATIONS, "free")]
)
def test_the_answer_for_another_place_lands_nothing_there_and_all_elsewhere(dataset: Dataset, plan: str) -> None:
    wrong, right = PLACES[:2]
    fault = Fault(kind="other_place", place=(wrong.latitude, wrong.longitude))
    fetched = fetch(dataset, fault, hours=THIS_HOUR, plan=plan)
    assert set(fetched.records["location_id"].to_pylist()) == {right.id}
    assert {(r.reason, r.location_id) for r in fetched.rejections} == {(RejectionReason.OTHER_PLACE, wrong.id)}


def test_a_stale_current_reading_is_quarantined_under_the_hour_that_was_asked() -> None:
    fetched = fetch(OBSERVATIONS, Fault(kind="stale", seconds=7200), hours=THIS_HOUR, plan="free")
    assert fetched.records.num_rows == 0
    assert {(r.reason, r.hour_utc) for r in fetched.rejections} == {
        (RejectionReason.OUTSIDE_HOUR, int(THIS_HOUR.first.timestamp()))
    }


def test_a_stale_forecast_keeps_only_the_steps_to_come() -> None:
    fetched = fetch(FORECASTS, Fault(kind="stale", seconds=6 * 3600), hours=THIS_HOUR, plan="free")
    rows = fetched.records.to_pylist()
    assert rows
    assert all(row["valid_hour_utc"] >= row["issued_hour_utc"] for row in rows)
    assert {r.reason for r in fetched.rejections} == {RejectionReason.BEFORE_ISSUE}


def test_current_weather_lands_under_the_running_hour_for_every_default_place() -> None:
    fetched = fetch(OBSERVATIONS, hours=THIS_HOUR, places=PLACES, plan="free")
    assert fetched.records["valid_hour_utc"].to_pylist() == [THIS_HOUR.first] * len(PLACES)
    assert fetched.rejections == []


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (Fault(kind="status", status=401), AccountRefused, 1),
        (Fault(kind="status", status=404), RequestRefused, 1),
        (Fault(kind="status", status=429), QuotaExceeded, 1),
        (Fault(kind="error_in_200", status=401), AccountRefused, 1),
        (Fault(kind="wrong_shape"), MalformedAnswer, 1),
        (Fault(kind="status", status=500), TransientProviderError, QUICK.attempts),
        (Fault(kind="status", status=503), TransientProviderError, QUICK.attempts),
        (Fault(kind="html"), TransientProviderError, QUICK.attempts),
        (Fault(kind="empty"), TransientProviderError, QUICK.attempts),
        (Fault(kind="truncated"), TransientProviderError, QUICK.attempts),
        (Fault(kind="reset"), TransientProviderError, QUICK.attempts),
    ],
    ids=lambda value: f"{value.kind} {value.status}" if isinstance(value, Fault) else "",
)
def test_each_fault_ends_in_its_error_after_its_number_of_requests(
    fault: Fault, error: type[Exception], requests: int
) -> None:
    faults = Faults([fault])
    app = create_app(faults=faults, clock=NOW.timestamp)
    with pytest.raises(error) as caught:
        fetch_all(api_of(app), OBSERVATIONS, [LYON], hours_ago(1, 1))
    assert type(caught.value) is error
    assert sum(sum(by_status.values()) for by_status in faults.requests.values()) == requests


@pytest.mark.parametrize("kind", ["status", "html", "empty", "truncated", "reset"])
def test_passing_trouble_costs_tries_and_no_hour(kind: str) -> None:
    fault = Fault.model_validate({"kind": kind, "probability": 0.3, "seed": 7})
    fetched = fetch(OBSERVATIONS, fault, hours=hours_ago(4 * 168 - 1))
    assert fetched.records.num_rows == 2 * 4 * 168
    assert fetched.calls > 8


@pytest.mark.integration
def test_the_recorded_year_comes_through_the_same_client_with_its_gaps() -> None:
    year = HourRange(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 12, 31, 23, tzinfo=UTC))
    api = WeatherApi.from_settings(Settings(_env_file=None, weather_provider="recorded"))
    fetched = fetch_all(api, OBSERVATIONS, load_locations(RECORDED_LOCATIONS), year)
    per_place = dict(zip(*fetched.records["location_id"].value_counts().flatten(), strict=True))
    assert {str(place): count.as_py() for place, count in per_place.items()} == {"ewr": 8703, "jfk": 8706, "lga": 8706}
    (absurd,) = fetched.rejections
    assert (absurd.field, absurd.location_id) == ("wind_speed_ms", "ewr")
    assert absurd.hour_utc == datetime(2013, 2, 12, 8, tzinfo=UTC).timestamp()


@pytest.mark.integration
def test_a_year_of_ten_places_arrives_whole() -> None:
    year = HourRange(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC))
    fetched = fetch(OBSERVATIONS, hours=year, places=PLACES)
    assert (fetched.records.num_rows, fetched.rejections, fetched.calls) == (87_600, [], 530)
    per_place_hour = fetched.records.group_by(["location_id", "valid_hour_utc"]).aggregate([])
    assert per_place_hour.num_rows == 87_600
