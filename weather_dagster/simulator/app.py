"""The simulated provider: OpenWeather's endpoints over the weather of ``model``, as an ASGI app.

One Call is in ``one_call``; Open-Meteo's hosts are served beside OpenWeather's by ``open_meteo``.

Always on, as documented of the service: optional fields missing now and then, integers for whole
numbers, ``cod`` as text in series, a current ``dt`` that lags, repeats and steps back, points without a
name, sunrise 0 in polar day and night, history cut to a week without a word. Faults: ``faults``.

Beyond the service: /data/2.5/forecast/history (forecasts issued in the past) does not exist there, and
its hourly history is not documented to hold gust and visibility. History never changes: the same
request has the same answer at any later time.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from starlette.types import ASGIApp

from weather_dagster.simulator import model
from weather_dagster.simulator.accounts import Account, WeightLimits
from weather_dagster.simulator.faults import Faults
from weather_dagster.simulator.gazetteer import Gazetteer, Named
from weather_dagster.simulator.model import Place
from weather_dagster.simulator.one_call import OneCall
from weather_dagster.simulator.open_meteo import OpenMeteo
from weather_dagster.simulator.protocol import Query, Refusal, build_app
from weather_dagster.simulator.wire import Json, air_quality_items, forecast_items, weather_items, whole

WEEK_SECONDS = 7 * 24 * 3600
GEOCODER_RESULTS = 5
AIR_POLLUTION_FORECAST_HOURS = 96
AIR_POLLUTION_START = int(datetime(2020, 11, 27, tzinfo=UTC).timestamp())

_REFRESH_SECONDS = 600
_OLDEST_SECONDS = 90
_REPLICA_SKEWS = (0, 0, 74, 20, 0)
"""Five calls in a row met back ends that were so many seconds apart (pyowm issue 361)."""


def create_app(
    accounts: Mapping[str, Account] | None = None,
    *,
    faults: Faults | None = None,
    clock: Callable[[], float] = time.time,
    weight_limits: WeightLimits | None = None,
) -> ASGIApp:
    """The simulated provider.

    Args:
        accounts: OpenWeather's, by key; None lets in every key that is not empty, to every product.
        faults: what goes wrong; keep it to change it later and to read the counts.
        clock: the current instant in unix seconds.
        weight_limits: of the simulated Open-Meteo; None has none.
    """
    gazetteer = Gazetteer()
    provider = _Simulator(clock, gazetteer)
    handlers = {
        "/data/2.5/weather": provider.current,
        "/data/2.5/forecast": provider.forecast,
        "/data/2.5/forecast/history": provider.past_forecasts,
        "/data/2.5/history/city": provider.history,
        "/data/2.5/air_pollution": provider.air_now,
        "/data/2.5/air_pollution/forecast": provider.air_forecast,
        "/data/2.5/air_pollution/history": provider.air_history,
        "/geo/1.0/direct": provider.direct,
        "/geo/1.0/reverse": provider.reverse,
        **OneCall(clock, gazetteer).handlers,
    }
    open_meteo = OpenMeteo(clock, gazetteer, weight_limits or WeightLimits())
    return build_app(
        handlers,
        provider="simulator",
        faults=faults,
        accounts=accounts,
        clock=clock,
        more_routes=open_meteo.routes,
    )


class _Simulator:
    def __init__(self, clock: Callable[[], float], gazetteer: Gazetteer) -> None:
        self._clock = clock
        self._gazetteer = gazetteer
        self._calls = 0

    def _hour(self) -> int:
        """The running unix hour."""
        return int(self._clock() // 3600)

    def current(self, query: Query) -> Json:
        place, units = Place.at(*query.coordinates), query.units
        skew = _REPLICA_SKEWS[self._calls % len(_REPLICA_SKEWS)]
        self._calls += 1
        computed = int((self._clock() - _OLDEST_SECONDS) // _REFRESH_SECONDS) * _REFRESH_SECONDS
        (item,) = weather_items(model.truth(place, np.array([computed / 3600])), units)
        named = self._name_of(place)
        sunrise, sunset = model.sun_times(place, computed / 3600) or (0, 0)
        inner = {"type": 2, "id": 2_000_000 + city_id(place) % 100_000, "country": named.country} if named else {}
        return {
            "coord": _coord(place),
            "weather": item.pop("weather"),
            "base": "stations",
            **item,
            "dt": computed + skew,
            "sys": {**inner, "sunrise": sunrise, "sunset": sunset},
            "timezone": _utc_offset(place, named, computed),
            "id": city_id(place) if named else 0,
            "name": named.name if named else "",
            "cod": 200,
        }

    def forecast(self, query: Query) -> Json:
        place, units, count = Place.at(*query.coordinates), query.units, query.count(model.FORECAST_STEPS)
        issued = self._hour()
        steps = forecast_items(model.forecast(place, np.array([issued])), units)[:count]
        return {
            "cod": "200",
            "message": 0,
            "cnt": len(steps),
            "list": steps,
            "city": self._city(place, issued),
        }

    def past_forecasts(self, query: Query) -> Json:
        place, units = Place.at(*query.coordinates), query.units
        start, end = query.span_or_count(WEEK_SECONDS - 1)
        issued = self._hours(start, end)
        entries: list[Json] = []
        if len(issued):
            steps = forecast_items(model.forecast(place, issued), units)
            size = model.FORECAST_STEPS
            entries = [
                {"issued": hour * 3600, "list": steps[i * size : (i + 1) * size]}
                for i, hour in enumerate(issued.tolist())
            ]
        return {
            "cod": "200",
            "message": 0,
            "cnt": len(entries),
            "city": self._city(place, start // 3600),
            "list": entries,
        }

    def history(self, query: Query) -> Json:
        place, units = Place.at(*query.coordinates), query.units
        query.require("type", "hour")
        hours = self._hours(*query.span_or_count(WEEK_SECONDS))
        items = weather_items(model.truth(place, hours.astype(np.float64)), units) if len(hours) else []
        return history_body(city_id(place) if self._name_of(place) else 0, items)

    def air_now(self, query: Query) -> Json:
        place = Place.at(*query.coordinates)
        return _air(place, np.array([self._hour()]))

    def air_forecast(self, query: Query) -> Json:
        place, issued = Place.at(*query.coordinates), self._hour()
        return _air(place, issued + np.arange(1, AIR_POLLUTION_FORECAST_HOURS + 1), issued=issued)

    def air_history(self, query: Query) -> Json:
        place = Place.at(*query.coordinates)
        start, end = query.span()
        return _air(place, self._hours(max(start, AIR_POLLUTION_START), end))

    def _hours(self, start: int, end: int) -> model.Integers:
        """Unix hours with ``start <= hour <= end`` (unix seconds), none after the running one."""
        return np.arange(-(-start // 3600), min(end // 3600, self._hour()) + 1)

    def direct(self, query: Query) -> list[Json]:
        asked = [part.strip() for part in (query.text("q") or "").split(",")]
        if not asked[0]:
            raise Refusal.bad_request("Nothing to geocode")
        name, *region = asked
        found = [place for place in self._gazetteer.search(name) if _lies_in(place, region)]
        return [_geocoded(place) for place in found[: query.limit(GEOCODER_RESULTS)]]

    def reverse(self, query: Query) -> list[Json]:
        found = self._gazetteer.around(*query.coordinates)
        return [_geocoded(place) for place in found[: query.limit(GEOCODER_RESULTS)]]

    def _name_of(self, place: Place) -> Named | None:
        return self._gazetteer.at(place.latitude, place.longitude)

    def _city(self, place: Place, hour: int) -> Json:
        named = self._name_of(place)
        sunrise, sunset = model.sun_times(place, float(hour)) or (0, 0)
        return {
            "id": city_id(place) if named else 0,
            "name": named.name if named else "",
            "coord": {"lat": whole(place.latitude), "lon": whole(place.longitude)},
            "country": named.country if named else "",
            "population": 0,
            "timezone": _utc_offset(place, named, hour * 3600),
            "sunrise": sunrise,
            "sunset": sunset,
        }


def history_body(city_id: int, items: list[Json]) -> Json:
    """The envelope of /history/city. Its ``calctime`` is a constant: equal requests have equal answers."""
    return {
        "message": f"Count: {len(items)}",
        "cod": "200",
        "city_id": city_id,
        "calctime": 0.0042,
        "cnt": len(items),
        "list": items,
    }


def _lies_in(place: Named, region: list[str]) -> bool:
    """Whether a place is in ``[country]`` or ``[state, country]``; states are known in the US only."""
    if region and place.country != region[-1].upper():
        return False
    return len(region) < 2 or place.country != "US" or (place.state or "").casefold() == region[0].casefold()


def _geocoded(place: Named) -> Json:
    item = {"name": place.name, "lat": place.latitude, "lon": place.longitude, "country": place.country}
    return item if place.state is None else item | {"state": place.state}


def _air(place: Place, hours: model.Integers, *, issued: int | None = None) -> Json:
    instants = hours.astype(np.float64)
    items = air_quality_items(instants, model.air_quality(place, instants, issued=issued)) if len(hours) else []
    return {"coord": _coord(place), "list": items}


def _coord(place: Place) -> Json:
    return {"lon": whole(place.longitude), "lat": whole(place.latitude)}


def city_id(place: Place) -> int:
    """A stand-in for the service's city id, the same for a place at any time."""
    return 1_000_000 + int(place.seed[0] % np.uint64(8_000_000))


def _utc_offset(place: Place, named: Named | None, instant: int) -> int:
    """Seconds east of UTC: of the named place's zone, elsewhere of the nautical zone."""
    if named is None:
        return round(place.longitude / 15) * 3600
    offset = datetime.fromtimestamp(instant, ZoneInfo(named.time_zone)).utcoffset()
    return round(offset.total_seconds()) if offset is not None else 0
