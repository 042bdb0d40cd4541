"""The page as text: what it says, what it carries, and how it is written."""

import html
import json
import re
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from weather_dagster.attribution import ATTRIBUTIONS
from weather_dagster.datasets import REASON_HELP, RejectionReason
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HourRange
from weather_dagster.locations import load_locations
from weather_dagster.quantities import AIR_QUALITY, TEMPERATURE, WEATHER, Quantity
from weather_dagster.report.page import is_night, quantity_label, unit, write_report
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.report.conftest import FORTNIGHT, HOSTILE_PLACE, LYON, NOW, WATCHED, GoldMaker

TIMES = "\N{MULTIPLICATION SIGN}"


def write(
    warehouse: Path,
    folder: Path,
    *,
    provider: str = "simulator",
    now: datetime = NOW,
    watched: Collection[str] = WATCHED,
) -> str:
    with open_warehouse(warehouse, read_only=True) as opened:
        path = write_report(opened, folder / "report.html", now=now, provider=provider, watched=watched)
    return path.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    """What the page's script draws from, by place."""
    text = page.split('<script type="application/json" id="report-data">')[1].split("</script>")[0]
    return {place["id"]: place for place in json.loads(text)["places"]}


def words_of(page: str) -> str:
    """Text of the page outside scripts and styles, white space folded."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", bare).split()))


@pytest.fixture(scope="module")
def page(fortnight: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(fortnight, tmp_path_factory.mktemp("report"))


def test_the_page_asks_for_nothing_from_outside(page: str) -> None:
    markup = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    loaded = re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', markup)
    assert set(loaded) == {"data:,"}
    assert "default-src 'none'" in markup


def test_every_place_has_its_current_conditions(page: str, fortnight: Path) -> None:
    words = words_of(page)
    with open_warehouse(fortnight, read_only=True) as warehouse:
        latest = warehouse.query("select location_name, temperature_c from gold.latest_conditions")
    assert len(latest) == len(load_locations())
    for name, temperature in latest:
        shown = f"{round(temperature, 1) + 0.0:.1f}".replace("-", "\N{MINUS SIGN}")
        assert re.search(rf"{name} .{{0,60}}\(UTC.{{0,6}}\) {shown} °C", words), name
    assert "2026-11-25 12:45 local (UTC+5:45)" in words
    assert "2 (fair)" in words
    assert "Age when made 13 min" in words


def test_a_small_negative_value_is_shown_as_zero_without_a_sign(page: str) -> None:
    assert "Longyearbyen NO 2026-11-25 08:00 local (UTC+1) 0.0 °C" in words_of(page)
    assert 0.0 in data_of(page)["longyearbyen"]["hourly"]["temperature_c"]
    carried = page.split('id="report-data">')[1].split("</script>")[0]
    assert not re.search(r"[-\N{MINUS SIGN}]0\.0\b", words_of(page) + carried)


def test_missing_hours_are_null_in_every_hourly_column(page: str, fortnight: Path) -> None:
    hourly = data_of(page)["lyon"]["hourly"]
    with open_warehouse(fortnight, read_only=True) as warehouse:
        present = {
            local
            for (local,) in warehouse.query(
                "select strftime(local_time, '%Y-%m-%d %H:%M') from gold.hourly_weather where location_id = 'lyon'"
            )
        }
    assert len(hourly["time"]) == len(FORTNIGHT)
    missing = [i for i, time in enumerate(hourly["time"]) if time not in present]
    assert len(missing) == len(FORTNIGHT) - len(present) > 0
    for name, values in hourly.items():
        if name != "time":
            assert all(values[i] is None for i in missing), name
    assert sum(value is None for value in hourly["temperature_c"]) == len(missing)


def test_data_quality_counts_hours_quarantine_rejected_values_and_providers(page: str, fortnight: Path) -> None:
    words = words_of(page)
    with open_warehouse(fortnight, read_only=True) as warehouse:
        rows = warehouse.query(
            "select location_name, count(*), count(rejected_fields) from gold.hourly_weather group by all order by 1"
        )
    for name, present, rejected in rows:
        quarantined = f"3 {TIMES} implausible value" if name == "Lyon" else "none"
        assert re.search(
            rf"{name} {336 - present} {present} 336 {100 * present / 336:.1f} \d+ \d+ \d+ {quarantined} "
            rf"{rejected} {TIMES} Mean wind speed simulator 100 %",
            words,
        ), name
    assert "observations 1 2026-11-25 07:00 UTC 25 min 2026-11-11 08:00 to 2026-11-25 07:00 UTC 0 3 simulator" in words
    assert "wind_speed_ms is 468.66, outside 0 to 115" in words
    assert html.escape(REASON_HELP[RejectionReason.IMPLAUSIBLE_VALUE]) in page


def test_days_are_complete_or_complete_so_far_or_have_gaps(page: str, fortnight: Path) -> None:
    with open_warehouse(fortnight, read_only=True) as warehouse:
        present = Counter(
            day
            for (day,) in warehouse.query("select local_date from gold.hourly_weather where location_id = 'new_york'")
        )
    zone = ZoneInfo("America/New_York")
    covered = Counter(hour.astimezone(zone).date() for hour in FORTNIGHT)
    gaps = sum(present[day] < hours for day, hours in covered.items())
    so_far = sum(present[day] == hours < 24 for day, hours in covered.items())
    assert gaps > 0
    assert so_far > 0
    counts = f"{len(covered) - gaps - so_far} {so_far} {gaps} none"
    assert re.search(rf"New York \d+ \d+ 336 [\d.]+ {counts}", words_of(page))
    daily = data_of(page)["new_york"]["daily"]
    assert [present[day] for day in sorted(covered)] == daily["hours_present"]
    assert [covered[day] for day in sorted(covered)] == daily["hours_in_period"]
    assert set(daily["hours_in_day"]) == {24}


def test_long_means_are_left_out_until_half_of_their_hours_are_there(page: str, fortnight: Path) -> None:
    with open_warehouse(fortnight, read_only=True) as warehouse:
        rows = warehouse.query(
            """
            select strftime(local_time, '%Y-%m-%d %H:%M'), hours_present_24h, hours_present_7d
            from gold.temperature_moving_averages join gold.hourly_weather using (location_id, valid_hour_utc)
            where location_id = 'lyon' order by valid_hour_utc
            """
        )
    hourly = data_of(page)["lyon"]["hourly"]
    at = {time: i for i, time in enumerate(hourly["time"])}
    for time, of_day, of_week in rows:
        assert (hourly["mean_24h_c"][at[time]] is None) == (of_day < 12), time
        assert (hourly["mean_7d_c"][at[time]] is None) == (of_week < 84), time
    assert hourly["mean_7d_c"][at[rows[0][0]]] is None
    assert "Means are drawn from 12 of 24 hours, and 84 of the 168 hours of 7 days, on." in words_of(page)


def test_totals_come_from_unrounded_values_and_agree(make_gold: GoldMaker, tmp_path: Path) -> None:
    warehouse = make_gold(locations=[LYON])
    with open_warehouse(warehouse) as opened:
        for table, hours in (("hourly_weather", "1"), ("daily_weather", "hours_present")):
            opened.connection.execute(
                f"update gold.{table} set precipitation_mm = 0.03 * {hours}, rain_mm = 0.03 * {hours}, snow_mm = 0"
            )
        ((hours,),) = opened.query("select count(*) from gold.hourly_weather")
    lyon = data_of(write(warehouse, tmp_path))["lyon"]
    total = round(0.03 * hours, 1)
    assert total > 9
    assert lyon["hourlyTotals"] == {"precipitation_mm": total, "rain_mm": total, "snow_mm": 0, "wet_hours": hours}
    assert lyon["dailyTotals"] == {"precipitation_mm": total, "rain_mm": total, "snow_mm": 0}


def test_a_place_that_is_watched_no_longer_is_named_and_left_out(make_gold: GoldMaker, tmp_path: Path) -> None:
    warehouse = make_gold(locations=[LYON, HOSTILE_PLACE])
    with open_warehouse(warehouse) as opened:
        opened.connection.execute(
            "delete from gold.hourly_weather where location_id = 'lyon' and valid_hour_utc >= '2026-11-20T00:00Z'"
        )
    page = write(warehouse, tmp_path, watched=["lyon"])
    assert list(data_of(page)) == ["lyon"]
    words = words_of(page)
    assert f"No longer watched: {HOSTILE_PLACE.name}." in words
    assert words.count(HOSTILE_PLACE.name) == 1
    assert "1 place 2026-11-11 08:00 to 2026-11-19 23:00 UTC" in words
    assert "No longer watched" not in words_of(write(warehouse, tmp_path))


@pytest.mark.parametrize(("hours_behind", "shown"), [(3, "2 (fair)"), (4, "\N{EN DASH} (last 4 h before)")])
def test_air_quality_of_long_before_the_reading_is_a_dash(
    make_gold: GoldMaker, tmp_path: Path, hours_behind: int, shown: str
) -> None:
    warehouse = make_gold(locations=[LYON])
    with open_warehouse(warehouse) as opened:
        opened.connection.execute(
            "delete from silver.air_quality where valid_hour_utc > ?", [FORTNIGHT.last - timedelta(hours=hours_behind)]
        )
    assert f"Air quality {shown} Age" in words_of(write(warehouse, tmp_path))


def test_air_quality_of_after_the_reading_is_not_taken(make_gold: GoldMaker, tmp_path: Path) -> None:
    warehouse = make_gold(locations=[LYON])
    with open_warehouse(warehouse) as opened:
        opened.connection.execute(
            """
            insert into silver.air_quality
            select * replace (5 as provider_aqi, valid_hour_utc + interval 30 day as valid_hour_utc)
            from silver.air_quality
            """
        )
    assert "Air quality 2 (fair) Age" in words_of(write(warehouse, tmp_path))


def test_a_recording_that_does_not_tell_rain_from_snow_says_so(make_gold: GoldMaker, tmp_path: Path) -> None:
    page = write(make_gold(locations=[LYON], provider="recorded"), tmp_path, provider="recorded")
    card = words_of(page).split("Charts of one place")[0]
    assert re.search(r"Precipitation \d+\.\d mm; rain and snow not told apart", card)
    assert "Snow" not in card
    assert data_of(page)["lyon"]["tellsSnow"] is False


@pytest.mark.parametrize(
    ("instant", "latitude", "longitude", "night"),
    [
        (datetime(2026, 3, 20, 12, tzinfo=UTC), 0, 0, False),
        (datetime(2026, 3, 20, 0, tzinfo=UTC), 0, 0, True),
        (datetime(2026, 3, 20, 12, tzinfo=UTC), 0, 180, True),
        (datetime(2026, 6, 21, 0, tzinfo=UTC), 78.2, 15.6, False),
        (datetime(2026, 12, 21, 12, tzinfo=UTC), 78.2, 15.6, True),
        # Lyon, 21 June 2026: sunrise 03:53 UTC, sunset 19:34 UTC
        (datetime(2026, 6, 21, 3, 25, tzinfo=UTC), 45.76, 4.84, True),
        (datetime(2026, 6, 21, 4, 20, tzinfo=UTC), 45.76, 4.84, False),
        (datetime(2026, 6, 21, 19, 10, tzinfo=UTC), 45.76, 4.84, False),
        (datetime(2026, 6, 21, 20, 0, tzinfo=UTC), 45.76, 4.84, True),
    ],
)
def test_night_is_when_the_sun_is_below_the_horizon(
    instant: datetime, latitude: float, longitude: float, night: bool
) -> None:
    assert is_night(latitude, longitude, instant) == night


def test_a_clear_night_shows_a_moon(make_gold: GoldMaker, tmp_path: Path) -> None:
    warehouse = make_gold(locations=[LYON])
    icons = []
    for hour in (0, 12):
        with open_warehouse(warehouse) as opened:
            opened.connection.execute(
                "update gold.latest_conditions set condition_group = 'clear', observed_at_utc = ?",
                [datetime(2026, 11, 25, hour, tzinfo=UTC)],
            )
        icons += re.findall(r'class="icon".*?href="#icon-([a-z-]+)"', write(warehouse, tmp_path))
    assert icons == ["clear-night", "clear"]


def test_a_place_without_rows_is_said_to_have_none(page: str) -> None:
    assert "Nowhere yet No reading of this place in gold yet." in words_of(page)
    assert data_of(page)["empty"]["hourly"] == {}
    assert data_of(page)["empty"]["daily"] == {}


def test_a_place_that_fell_behind_misses_the_hours_up_to_the_newest_of_all(
    make_gold: GoldMaker, tmp_path: Path
) -> None:
    warehouse = make_gold()
    with open_warehouse(warehouse) as opened:
        opened.connection.execute(
            "delete from gold.hourly_weather where location_id = 'lyon' and valid_hour_utc >= '2026-11-23T23:00Z'"
        )
        opened.connection.execute(
            "delete from gold.daily_weather where location_id = 'lyon' and local_date >= '2026-11-24'"
        )
    daily = data_of(write(warehouse, tmp_path))["lyon"]["daily"]
    assert daily["date"][-2:] == ["2026-11-24", "2026-11-25"]
    assert daily["hours_present"][-2:] == [0, 0]
    assert daily["hours_in_period"][-2:] == [24, 9]
    assert daily["temperature_mean_c"][-2:] == [None, None]


def test_clocks_that_go_back_break_the_line_and_the_day_has_25_hours(make_gold: GoldMaker, tmp_path: Path) -> None:
    autumn = HourRange(datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 26, 12, tzinfo=UTC))
    place = data_of(write(make_gold(locations=[LYON], hours=autumn), tmp_path))["lyon"]
    times = place["hourly"]["time"]
    second = times.index(None) + 1
    assert times[second - 2 : second + 1] == ["2026-10-25 02:00", None, "2026-10-25 02:00"]
    assert place["hourly"]["temperature_c"][second - 1] is None
    assert len(times) == len(autumn) + 1
    assert dict(zip(place["daily"]["date"], place["daily"]["hours_in_day"], strict=True))["2026-10-25"] == 25


@pytest.mark.parametrize(
    ("provider", "label", "attribution"),
    [
        ("simulator", "SIMULATED DATA", "Weather made by the simulator"),
        ("recorded", "Recorded hours of 2013", "NOAA ASOS"),
        ("openweather", "Live data from OpenWeather", "Weather data provided by OpenWeather"),
        ("open_meteo", "Live data from Open-Meteo", "Weather data by Open-Meteo.com , licence CC BY 4.0"),
        ("another", "Data from another", "Weather data provided by another"),
    ],
)
def test_the_provider_is_named_above_and_credited_below(
    make_gold: GoldMaker, tmp_path: Path, provider: str, label: str, attribution: str
) -> None:
    words = words_of(write(make_gold(locations=[LYON], provider=provider), tmp_path, provider=provider))
    assert label in words.split("made 2026-11-25")[0]
    assert attribution in words.rsplit("Newest in quarantine", 1)[1]
    assert ("SIMULATED" in words) == (provider == "simulator")


def footer_of(page: str) -> str:
    return page.rsplit("<footer", 1)[1].split("</footer>")[0]


def links_of(markup: str) -> dict[str, str]:
    """Words of each link and where it leads."""
    found = re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', markup)
    return {html.unescape(text): url for url, text in found}


def deliver(warehouse: Path, table: str, provider: str, place: str) -> None:
    """Make another provider the one of a place's rows."""
    with open_warehouse(warehouse) as opened:
        opened.connection.execute(f"update {table} set provider = ? where location_id = ?", [provider, place])


@pytest.mark.parametrize("provider", sorted(ATTRIBUTIONS))
def test_the_footer_credits_the_one_provider_that_delivered(
    make_gold: GoldMaker, tmp_path: Path, provider: str
) -> None:
    footer = footer_of(write(make_gold(locations=[LYON], provider=provider), tmp_path, provider="simulator"))
    links = links_of(footer)
    for name, known in ATTRIBUTIONS.items():
        assert (known.credit.text in html.unescape(footer)) == (name == provider), name
        if name == provider and known.credit.url:
            assert links[known.credit.text] == known.credit.url
    assert ("CC BY 4.0" in links) == (provider == "open_meteo")
    assert ("ODbL" in links) == (provider == "openweather")


def test_open_meteo_is_credited_with_licence_changes_and_models_and_its_air_quality_with_copernicus(
    make_gold: GoldMaker, tmp_path: Path
) -> None:
    warehouse = make_gold(locations=[LYON], provider="open_meteo")
    with_air = footer_of(write(warehouse, tmp_path))
    assert links_of(with_air)["Weather data by Open-Meteo.com"] == "https://open-meteo.com/"
    assert links_of(with_air)["CC BY 4.0"] == "https://creativecommons.org/licenses/by/4.0/"
    assert "Changed here: units converted, hours aggregated. Models by ECMWF, DWD, NOAA and others." in with_air
    assert "https://atmosphere.copernicus.eu/" in links_of(with_air).values()
    deliver(warehouse, "silver.air_quality", "openweather", LYON.id)
    footer = footer_of(write(warehouse, tmp_path))
    assert "Copernicus" not in footer
    assert links_of(footer)["Weather data provided by OpenWeather"] == "https://openweathermap.org/"


def test_each_place_names_its_provider_where_there_are_several(make_gold: GoldMaker, tmp_path: Path) -> None:
    warehouse = make_gold(locations=[LYON, HOSTILE_PLACE], provider="openweather")
    assert "Source" not in words_of(write(warehouse, tmp_path, provider="openweather"))
    for table in ("gold.hourly_weather", "gold.latest_conditions"):
        deliver(warehouse, table, "open_meteo", LYON.id)
    page = write(warehouse, tmp_path, provider="openweather")
    cards = words_of(page).split("Charts of one place")[0]
    assert "data of Open-Meteo, OpenWeather made" in cards
    hostile, lyon = re.findall(r"Source (.+?)(?= Lyon FR|$)", cards)
    assert hostile == "OpenWeather"
    assert lyon.strip() == "Open-Meteo; air quality OpenWeather"


def test_rows_of_another_provider_than_the_configured_one_are_named(make_gold: GoldMaker, tmp_path: Path) -> None:
    page = write(make_gold(locations=[LYON], provider="openweather"), tmp_path, provider="open_meteo")
    cards = words_of(page).split("Charts of one place")[0]
    assert "data of OpenWeather made" in cards
    assert "Source OpenWeather" in cards


def test_a_place_that_is_watched_no_longer_is_not_credited(make_gold: GoldMaker, tmp_path: Path) -> None:
    warehouse = make_gold(locations=[LYON, HOSTILE_PLACE], provider="openweather")
    for table in ("gold.hourly_weather", "gold.latest_conditions", "silver.air_quality"):
        deliver(warehouse, table, "open_meteo", HOSTILE_PLACE.id)
    footer = footer_of(write(warehouse, tmp_path, provider="openweather", watched=[LYON.id]))
    assert "OpenWeather" in footer
    assert "Open-Meteo" not in footer


def test_simulated_hours_in_a_live_warehouse_are_announced(make_gold: GoldMaker, tmp_path: Path) -> None:
    page = write(make_gold(locations=[LYON], provider="simulator"), tmp_path, provider="openweather")
    assert re.search(r"PARTLY SIMULATED \d+ hours in this warehouse come from the simulator", words_of(page))


def test_a_reading_of_a_live_provider_is_marked_when_it_is_old(make_gold: GoldMaker, tmp_path: Path) -> None:
    warehouse = make_gold(locations=[LYON], provider="openweather")
    fresh = words_of(write(warehouse, tmp_path, provider="openweather", now=NOW))
    assert "Age when made 13 min" in fresh
    assert "old" not in fresh.split("Charts of one place")[0]
    later = words_of(write(warehouse, tmp_path, provider="openweather", now=NOW + timedelta(hours=5)))
    assert "Age when made 5 h 13 min, old" in later


@pytest.mark.parametrize(
    ("condition_id", "group", "words"),
    [(None, "unknown", "Sky not reported"), (999, "unknown", "Unknown condition 999"), (800, "clear", "Clear sky")],
)
def test_a_sky_is_named_or_said_to_be_unknown(
    make_gold: GoldMaker, tmp_path: Path, condition_id: int | None, group: str, words: str
) -> None:
    warehouse = make_gold(locations=[LYON])
    with open_warehouse(warehouse) as opened:
        opened.connection.execute(
            "update gold.latest_conditions set condition_id = ?, condition_group = ?", [condition_id, group]
        )
    assert f" {words} Wind " in words_of(write(warehouse, tmp_path))


def test_the_recorded_year_has_no_air_quality_and_shows_its_last_hour(make_gold: GoldMaker, tmp_path: Path) -> None:
    page = write(make_gold(locations=[LYON], provider="recorded"), tmp_path, provider="recorded")
    assert "Conditions of the last recorded hour" in words_of(page)
    assert "ozone_ug_m3" not in data_of(page)["lyon"]["hourly"]
    assert "temperature_c" in data_of(page)["lyon"]["hourly"]


def test_a_year_of_ten_places_keeps_hourly_values_of_a_month_and_stays_small(
    make_gold: GoldMaker, tmp_path: Path
) -> None:
    year = HourRange(FORTNIGHT.last - timedelta(hours=8759), FORTNIGHT.last)
    page = write(make_gold(hours=year), tmp_path)
    assert len(page) < 7_000_000
    assert "The hourly charts show the last 31 days of each place, the daily charts every day." in words_of(page)
    lyon = data_of(page)["lyon"]
    assert len([time for time in lyon["hourly"]["time"] if time]) == 31 * 24
    assert len(lyon["daily"]["date"]) == 366
    assert sum(lyon["daily"]["hours_in_period"]) == 8760


def test_names_of_places_cannot_break_out_of_the_page(make_gold: GoldMaker, tmp_path: Path) -> None:
    page = write(make_gold(locations=[HOSTILE_PLACE]), tmp_path)
    assert "</script><b>" not in page
    assert data_of(page)["hostile"]["name"] == HOSTILE_PLACE.name
    assert html.escape(HOSTILE_PLACE.name) in page


def test_without_gold_the_way_out_is_named(tmp_path: Path) -> None:
    with (
        open_warehouse(tmp_path / "warehouse.duckdb") as warehouse,
        pytest.raises(WarehouseError, match=r"gold\.hourly_weather.*run `weather demo`"),
    ):
        write_report(warehouse, tmp_path / "report.html", now=NOW, provider="simulator", watched=WATCHED)
    assert not (tmp_path / "report.html").exists()


def test_without_any_place_the_way_out_is_named(make_gold: GoldMaker, tmp_path: Path) -> None:
    path = make_gold(locations=[LYON])
    with open_warehouse(path) as warehouse:
        warehouse.connection.execute("delete from bronze.locations")
        with pytest.raises(WarehouseError, match="none of the watched places yet; run `weather demo`"):
            write_report(warehouse, tmp_path / "report.html", now=NOW, provider="simulator", watched=WATCHED)


def test_empty_gold_makes_a_page_that_says_so(make_gold: GoldMaker, tmp_path: Path) -> None:
    path = make_gold(locations=[LYON])
    with open_warehouse(path) as warehouse:
        for table in ("gold.hourly_weather", "gold.daily_weather", "gold.latest_conditions", "silver.air_quality"):
            warehouse.connection.execute(f"delete from {table}")
    assert "no hours yet: run weather demo or weather backfill" in words_of(write(path, tmp_path))


def test_a_report_that_cannot_be_written_names_the_path_and_leaves_nothing_behind(
    fortnight: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "report.html"
    taken.mkdir()
    with (
        open_warehouse(fortnight, read_only=True) as warehouse,
        pytest.raises(WarehouseError, match=re.escape(str(taken))),
    ):
        write_report(warehouse, taken, now=NOW, provider="simulator", watched=WATCHED)
    assert list(tmp_path.iterdir()) == [taken]


def test_writing_again_replaces_the_report_and_makes_folders(fortnight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    first = write(fortnight, folder)
    second = write(fortnight, folder, now=NOW + timedelta(minutes=1))
    assert first != second
    assert [path.name for path in folder.iterdir()] == ["report.html"]


@pytest.mark.parametrize("quantity", [*WEATHER, *AIR_QUALITY], ids=lambda quantity: quantity.name)
def test_every_quantity_has_a_unit_and_a_label(quantity: Quantity) -> None:
    assert unit(quantity.name) in quantity.description or quantity.name == "wind_direction_deg"
    assert quantity.description.startswith(quantity_label(quantity))


def test_a_label_leaves_out_unit_and_records() -> None:
    assert quantity_label(TEMPERATURE) == "Air temperature"
    assert unit("temperature_c") == "°C"
