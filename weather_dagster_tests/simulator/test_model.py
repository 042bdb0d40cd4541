"""The simulated weather is the same everywhere, plausible everywhere, and forecast with a growing error."""

import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from weather_dagster import quantities
from weather_dagster.locations import load_locations
from weather_dagster.simulator import model
from weather_dagster.simulator.model import Place, truth
from weather_dagster_tests.simulator.conftest import unix

PLACES = {location.id: Place.at(location.latitude, location.longitude) for location in load_locations()}
YEAR = np.arange(8760) + unix("2025-01-01T00:00") / 3600
WEEK = YEAR[:168]


def month(hours: np.ndarray, number: int) -> np.ndarray:
    return np.array([datetime.fromtimestamp(h * 3600, UTC).month == number for h in hours])


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def test_the_same_place_hour_has_the_same_weather_however_it_is_asked_for():
    place = PLACES["lyon"]
    whole_week = truth(place, WEEK)
    alone = truth(Place.at(45.76, 4.84), WEEK[100:101])
    assert alone.temperature_c[0] == whole_week.temperature_c[100]
    assert alone.lottery[0] == whole_week.lottery[100]
    assert alone.condition_id[0] == whole_week.condition_id[100]


def test_another_process_computes_the_same_weather():
    script = (
        "import numpy as np; from weather_dagster.simulator.model import Place, truth;"
        "w = truth(Place.at(45.76, 4.84), np.arange(490_000.0, 490_048.0));"
        "print(np.round(w.temperature_c, 2).tolist(), w.condition_id.tolist(), w.lottery.tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_weather_is_pinned():
    """A change of the model gives every simulated warehouse new versions of all hours: make it knowingly."""
    weather = truth(PLACES["lyon"], np.array([490_000.0, 490_001.0]))
    assert weather.temperature_c.tolist() == pytest.approx([8.425674579546959, 7.661102441900056])
    assert weather.lottery.tolist() == [16411135503938943484, 11334403580837733732]


def test_places_differ():
    lyon, elsewhere = truth(PLACES["lyon"], WEEK), truth(Place.at(45.9, 4.84), WEEK)
    assert rms(lyon.pressure_hpa - elsewhere.pressure_hpa) > 1


@pytest.mark.parametrize(
    "place", [*PLACES.values(), Place.at(90, 0), Place.at(-90, 0), Place.at(-78.5, 106.9), Place.at(0, 180)]
)
def test_a_year_stays_within_the_plausible_limits(place: Place):
    weather = truth(place, YEAR)
    forecast = model.forecast(place, YEAR[::20].astype(np.int64))
    for values in (weather, forecast):
        for quantity in quantities.FORECAST:
            if quantity is not quantities.PRECIPITATION:
                column = getattr(values, quantity.name)
                assert quantity.is_plausible(float(column.min())), quantity.name
                assert quantity.is_plausible(float(column.max())), quantity.name
    names = {
        "pm2_5": quantities.PM2_5,
        "pm10": quantities.PM10,
        "co": quantities.CARBON_MONOXIDE,
        "o3": quantities.OZONE,
    }
    air = model.air_quality(place, YEAR)
    for name, column in air._asdict().items():
        limits = names.get(name, quantities.NITROGEN_DIOXIDE)
        assert limits.is_plausible(float(column.min())), name
        assert limits.is_plausible(float(column.max())), name
    assert (air.pm10 > air.pm2_5).all()


def test_it_is_smooth_from_hour_to_hour():
    for place in PLACES.values():
        weather = truth(place, YEAR)
        assert np.abs(np.diff(weather.temperature_c)).max() < 4.5
        assert np.abs(np.diff(weather.pressure_hpa)).max() < 6


@pytest.mark.parametrize(("place", "warmest", "coldest"), [("lyon", 7, 1), ("longyearbyen", 7, 1), ("sydney", 1, 7)])
def test_seasons_follow_the_hemisphere(place: str, warmest: int, coldest: int):
    temperature = truth(PLACES[place], YEAR).temperature_c
    assert temperature[month(YEAR, warmest)].mean() > temperature[month(YEAR, coldest)].mean() + 8


def test_the_day_is_warmest_in_the_afternoon_on_land_and_hardly_at_sea():
    def by_solar_hour(place: Place) -> np.ndarray:
        temperature = truth(place, YEAR).temperature_c
        solar = np.floor(YEAR + place.longitude / 15) % 24
        return np.array([temperature[solar == hour].mean() for hour in range(24)])

    land, sea = by_solar_hour(PLACES["lyon"]), by_solar_hour(PLACES["mid_atlantic"])
    assert 13 <= int(land.argmax()) <= 16
    assert np.ptp(land) > 4
    assert np.ptp(sea) < 2


def test_the_sun_stays_up_or_down_for_months_at_the_polar_place_only():
    polar, lyon = PLACES["longyearbyen"], PLACES["lyon"]
    assert not truth(polar, YEAR[month(YEAR, 12)]).is_day.any()
    assert truth(polar, YEAR[month(YEAR, 6)]).is_day.all()
    assert model.sun_times(polar, unix("2025-12-21T12:00") / 3600) is None
    assert model.sun_times(polar, unix("2025-06-21T12:00") / 3600) is None
    times = model.sun_times(lyon, unix("2025-06-21T12:00") / 3600)
    assert times is not None
    # An almanac gives 03:53 and 19:34 UTC; the simulator leaves the equation of time out.
    assert times[0] == pytest.approx(unix("2025-06-21T03:53"), abs=600)
    assert times[1] == pytest.approx(unix("2025-06-21T19:34"), abs=600)


def test_rain_comes_in_spells_and_agrees_with_clouds_and_codes():
    for place in PLACES.values():
        weather = truth(place, YEAR)
        amount = weather.rain_mm + weather.snow_mm
        wet = amount > 0
        assert 0.03 < wet.mean() < 0.25
        assert wet[1:][wet[:-1]].mean() > 0.6, "an hour after rain is mostly wet"
        assert (weather.cloud_cover_pct[wet] >= 59).all()
        assert set(np.unique(weather.condition_id[wet] // 100)) <= {2, 3, 5, 6}
        assert set(np.unique(weather.condition_id[~wet] // 100)) <= {7, 8}
        assert (weather.temperature_c[weather.snow_mm > 0] < 2).all()
        assert (weather.temperature_c[weather.rain_mm > 0] > 0).all()
    assert truth(PLACES["longyearbyen"], YEAR).snow_mm.sum() > 50
    assert truth(PLACES["kiritimati"], YEAR).snow_mm.sum() == 0


def test_forecast_hours_are_the_next_multiples_of_three_hours():
    hour = unix("2026-11-25T12:00") // 3600
    valid = model.forecast_hours(np.array([hour, hour + 1, hour + 2, hour + 3]))
    assert valid.shape == (4, 40)
    assert (valid % 3 == 0).all()
    assert valid[:, 0].tolist() == [hour + 3, hour + 3, hour + 3, hour + 6]
    assert (np.diff(valid, axis=1) == 3).all()


@pytest.mark.parametrize("quantity", ["temperature_c", "pressure_hpa", "wind_speed_ms", "cloud_cover_pct"])
def test_the_error_of_forecasts_grows_with_lead_time_to_the_spread_of_the_climate(quantity: str):
    place = PLACES["lyon"]
    issued = YEAR[::6].astype(np.int64)
    error = getattr(model.forecast(place, issued), quantity) - getattr(
        truth(place, model.forecast_hours(issued).astype(float)), quantity
    )
    by_day = [rms(error[:, start : start + 8]) for start in range(0, 40, 8)]
    assert by_day == sorted(by_day)
    first = rms(error[:, 0])
    assert 0 < first < by_day[-1] / 5
    independent = getattr(truth(place, YEAR[:-240]), quantity) - getattr(truth(place, YEAR[240:]), quantity)
    assert by_day[-1] < 1.2 * rms(independent)


def test_a_forecast_depends_on_place_issue_and_valid_hour_alone():
    place = PLACES["lyon"]
    hour = unix("2026-11-25T12:00") // 3600
    together = model.forecast(place, np.arange(hour, hour + 10))
    alone = model.forecast(place, np.array([hour + 7]))
    assert (alone.temperature_c[0] == together.temperature_c[7]).all()
    assert (alone.rain_mm[0] == together.rain_mm[7]).all()
    assert not (together.temperature_c[0] == together.temperature_c[1]).any()


def test_a_forecast_for_the_next_hours_sums_the_rain_that_then_falls():
    place = PLACES["quito"]
    issued = YEAR[2::3].astype(np.int64)
    amount = model.forecast(place, issued).rain_mm[:, 0]
    real = sum(truth(place, issued + 1.0 - back).rain_mm for back in range(3))
    assert np.corrcoef(amount, real)[0, 1] > 0.98


def test_air_is_worse_in_town_than_at_sea_and_in_the_rush_hour():
    lyon = model.air_quality(PLACES["lyon"], YEAR)
    sea = model.air_quality(PLACES["mid_atlantic"], YEAR)
    assert lyon.no2.mean() > 3 * sea.no2.mean()
    solar = np.floor(YEAR + PLACES["lyon"].longitude / 15) % 24
    assert lyon.no2[solar == 8].mean() > 1.5 * lyon.no2[solar == 3].mean()
    assert lyon.o3[solar == 14].mean() > lyon.o3[solar == 5].mean()
