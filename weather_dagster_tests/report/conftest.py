"""Silver and gold made by hand in a real DuckDB file: the columns that the report reads, filled with plausible weather.

The weather has what a report must get right: holes, small negative temperatures, missing values, snow,
a place without rows, and hours in which an implausible wind was turned away.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from weather_dagster.datasets import OBSERVATIONS, DatasetName, Rejection, RejectionReason
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location, load_locations
from weather_dagster.warehouse.base import Load
from weather_dagster.warehouse.duckdb import DuckDBWarehouse, open_warehouse

NOW = datetime(2026, 11, 25, 7, 25, tzinfo=UTC)
FORTNIGHT = HourRange(datetime(2026, 11, 11, 8, tzinfo=UTC), datetime(2026, 11, 25, 7, tzinfo=UTC))
EMPTY_PLACE = Location(id="empty", name="Nowhere yet", latitude=0, longitude=0, time_zone="UTC")
HOSTILE_PLACE = Location(
    id="hostile", name="</script><b>Tom & “Jerry”</b>", country="FR", latitude=1, longitude=1, time_zone="Europe/Paris"
)
LYON = Location(id="lyon", name="Lyon", country="FR", latitude=45.76, longitude=4.84, time_zone="Europe/Paris")
WATCHED = [place.id for place in (*load_locations(), EMPTY_PLACE, HOSTILE_PLACE)]

GOLD = """
create schema silver;
create schema gold;
create table gold.hourly_weather as
with hours as (
    select locations.*, provider, unnest(generate_series(first_hour, last_hour, interval 1 hour)) as valid_hour_utc
    from bronze.locations, span where location_id <> 'empty'
),
clock as (
    select *, epoch(valid_hour_utc) / 3600 as h, timezone(time_zone, valid_hour_utc) as local_time,
        (hash(location_id, epoch(valid_hour_utc)) % 1000) / 1000 as noise
    from hours
),
sky as (
    select *,
        29 - 0.42 * abs(latitude) + 4.5 * sin((date_part('hour', local_time) - 9) * pi() / 12)
            + 3 * sin(h / 47 + longitude) + noise as t,
        greatest(0, sin(h / 31 + latitude) - 0.6) * 6 * noise as wet,
        greatest(0, 5 + 4 * sin(h / 29 + longitude) + noise) as wind
    from clock
)
select location_id, name as location_name, country, latitude, longitude, time_zone, valid_hour_utc, local_time,
    local_time::date as local_date, provider, valid_hour_utc + interval 12 minute as observed_at_utc,
    case when location_id = 'longyearbyen' and h % 53 = 45 then -0.04 else t end as temperature_c,
    t - 1.234 as apparent_temperature_c,
    t - 3 as dew_point_c, null::double as heat_index_c, null::double as wind_chill_c,
    70 + 20 * sin(h / 20) as humidity_pct, 1013.4 + 9 * sin(h / 60) as pressure_hpa,
    case when h % 97 = 0 then null else wind end as wind_speed_ms, wind * 1.6 as wind_gust_ms,
    (h * 3 + longitude + 360) % 360 as wind_direction_deg, 'NNW' as wind_compass,
    50.0::double as cloud_cover_pct, 10000.0::double as visibility_m,
    case when t > 0 then wet else 0 end as rain_mm, case when t > 0 then 0 else wet end as snow_mm,
    wet as precipitation_mm, 800 as condition_id,
    case when wet > 0.3 and t > 0 then 'rain' when wet > 0 and t <= 0 then 'snow'
        when noise > 0.5 then 'clouds' else 'clear' end as condition_group,
    case when h % 97 = 0 then 'wind_speed_ms' end as rejected_fields, 1::bigint as load_id
from sky
where h % 113 not between 5 and 8;

create table gold.daily_weather as
with expected as (
    select location_id, timezone(time_zone, hour)::date as local_date, count(*) as hours_expected
    from bronze.locations, (
        select unnest(generate_series(first_hour - interval 2 day, last_hour + interval 2 day, interval 1 hour)) as hour
        from span
    ) group by all
)
select location_id, location_name, time_zone, local_date, hours_expected, count(*) as hours_present,
    count(*) / hours_expected as completeness, count(*) = hours_expected as is_complete,
    avg(temperature_c) as temperature_mean_c, min(temperature_c) as temperature_min_c,
    max(temperature_c) as temperature_max_c, count(temperature_c) as temperature_hours,
    avg(humidity_pct) as humidity_mean_pct, avg(pressure_hpa) as pressure_mean_hpa,
    avg(wind_speed_ms) as wind_speed_mean_ms, max(wind_speed_ms) as wind_speed_max_ms,
    max(wind_gust_ms) as wind_gust_max_ms, avg(wind_direction_deg) as wind_direction_mean_deg,
    sum(precipitation_mm) as precipitation_mm, count(precipitation_mm) as precipitation_hours_present,
    sum(rain_mm) as rain_mm, sum(snow_mm) as snow_mm, avg(greatest(0, 18 - temperature_c)) as heating_degree_days,
    avg(greatest(0, temperature_c - 18)) as cooling_degree_days, string_agg(distinct provider) as providers,
    max(load_id) as load_id
from gold.hourly_weather join expected using (location_id, local_date)
group by location_id, location_name, time_zone, local_date, hours_expected;

create table gold.temperature_moving_averages as
select location_id, location_name, valid_hour_utc, temperature_c,
    avg(temperature_c) over three as mean_3h_c, count(temperature_c) over three as hours_present_3h,
    avg(temperature_c) over day as mean_24h_c, count(temperature_c) over day as hours_present_24h,
    avg(temperature_c) over week as mean_7d_c, count(temperature_c) over week as hours_present_7d, load_id
from gold.hourly_weather
window
    three as (partition by location_id order by valid_hour_utc range between interval 2 hour preceding and current row),
    day as (partition by location_id order by valid_hour_utc range between interval 23 hour preceding and current row),
    week as (partition by location_id order by valid_hour_utc range between interval 167 hour preceding and current row)
;

create table gold.latest_conditions as
select * from gold.hourly_weather
qualify row_number() over (partition by location_id order by valid_hour_utc desc) = 1;

create table silver.air_quality as
select location_id, location_name, country, latitude, longitude, time_zone, valid_hour_utc, provider,
    'data/2.5/air_pollution/history' as endpoint, valid_hour_utc as observed_at_utc,
    200.0::double as carbon_monoxide_ug_m3,
    0.1::double as nitrogen_monoxide_ug_m3, 12 + 8 * cos(epoch(valid_hour_utc) / 14000) as nitrogen_dioxide_ug_m3,
    70 + 25 * sin(epoch(valid_hour_utc) / 14000) as ozone_ug_m3, 2.0::double as sulphur_dioxide_ug_m3,
    9 + 5 * sin(epoch(valid_hour_utc) / 90000) as pm2_5_ug_m3,
    16 + 9 * sin(epoch(valid_hour_utc) / 90000) as pm10_ug_m3,
    1.0::double as ammonia_ug_m3, 2 as provider_aqi, null::varchar as rejected_fields, true as is_plausible,
    valid_hour_utc as ingested_at_utc, load_id
from gold.hourly_weather where provider <> 'recorded';
"""

GoldMaker = Callable[..., Path]


def _rejections(locations: Sequence[Location], provider: str) -> list[Rejection]:
    return [
        Rejection(
            dataset=DatasetName.OBSERVATIONS,
            provider=provider,
            endpoint="data/2.5/history/city",
            location_id=locations[0].id,
            hour_utc=int(FORTNIGHT.first.timestamp()) + 3600 * i,
            reason=RejectionReason.IMPLAUSIBLE_VALUE,
            field="wind_speed_ms",
            message="wind_speed_ms is 468.66, outside 0 to 115",
            payload="{}",
            payload_hash=str(i),
        )
        for i in range(3)
    ]


@pytest.fixture(scope="session")
def make_gold(tmp_path_factory: pytest.TempPathFactory) -> GoldMaker:
    """``make_gold(locations=..., hours=..., provider=...)`` makes a warehouse with bronze ledgers, silver and gold."""

    def make(
        *,
        locations: Sequence[Location] | None = None,
        hours: HourRange = FORTNIGHT,
        provider: str = "simulator",
    ) -> Path:
        path = tmp_path_factory.mktemp("gold") / "warehouse.duckdb"
        places = load_locations() if locations is None else locations
        empty = pa.Table.from_pylist([], schema=OBSERVATIONS.arrow_schema)
        with open_warehouse(path) as warehouse:
            warehouse.land(
                Load(
                    OBSERVATIONS,
                    empty,
                    _rejections(places, provider),
                    places,
                    provider=provider,
                    hours=hours,
                    run_id="test",
                    now=hours.last,
                )
            )
            warehouse.connection.execute(
                """
                create temp table span as
                select ?::timestamptz as first_hour, ?::timestamptz as last_hour, ?::varchar as provider
                """,
                [hours.first, hours.last, provider],
            )
            warehouse.connection.execute(GOLD)
        return path

    return make


@pytest.fixture(scope="session")
def fortnight(make_gold: GoldMaker) -> Path:
    """The default places and one without rows, 14 days, simulated."""
    return make_gold(locations=[*load_locations(), EMPTY_PLACE])


@pytest.fixture
def fortnight_warehouse(fortnight: Path) -> Iterator[DuckDBWarehouse]:
    with open_warehouse(fortnight, read_only=True) as warehouse:
        yield warehouse
