"""One Call 3.0 and 4.0 over the simulated weather.

What was is the truth, what comes is the forecast that the running hour issues. Not made: ``minutely``,
``alerts``, moon and texts; the service leaves parts without content out too.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import numpy as np

from weather_dagster.simulator import model
from weather_dagster.simulator.gazetteer import Gazetteer, time_zone_of
from weather_dagster.simulator.model import Place
from weather_dagster.simulator.protocol import Handler, Query, Refusal
from weather_dagster.simulator.wire import TEMPERATURE, Json, Units, numbers, one_call_items, whole

PAGE_RECORDS = 20
HOURLY_RECORDS = 48
DAILY_RECORDS = 8
TIMEMACHINE_START = int(datetime(1979, 1, 1, tzinfo=UTC).timestamp())
TIMEMACHINE_AHEAD = 4 * 86_400
TIMELINE_HOURS_BACK = 47 * 365 * 24
TIMELINE_HOURS_AHEAD = 48

_FEW_DAYS = 5 * 86_400


class OneCall:
    """The endpoints of both generations."""

    def __init__(self, clock: Callable[[], float], gazetteer: Gazetteer) -> None:
        self._clock = clock
        self._gazetteer = gazetteer

    @property
    def handlers(self) -> dict[str, Handler]:
        """By path."""
        return {
            "/data/3.0/onecall": self.everything,
            "/data/3.0/onecall/timemachine": self.timemachine,
            "/data/4.0/onecall/current": self.current,
            "/data/4.0/onecall/timeline/1h": self.timeline,
        }

    def everything(self, query: Query) -> Json:
        place, units = Place.at(*query.coordinates), query.units
        excluded = set((query.text("exclude") or "").split(","))
        now, hour = int(self._clock()), self._hour()
        parts: dict[str, Callable[[], Json | list[Json]]] = {
            "current": lambda: self._records(place, [now], units)[0],
            "hourly": lambda: self._hourly(place, hour, units),
            "daily": lambda: self._daily(place, units),
        }
        return {**self._envelope(place), **{name: part() for name, part in parts.items() if name not in excluded}}

    def timemachine(self, query: Query) -> Json:
        place, units = Place.at(*query.coordinates), query.units
        instant = query.instant("dt", "wrong dt")
        if not TIMEMACHINE_START <= instant <= self._clock() + TIMEMACHINE_AHEAD:
            raise Refusal.bad_request("requested time is out of allowed range", code=400, parameter="dt")
        return {**self._envelope(place), "data": self._records(place, [instant], units)}

    def current(self, query: Query) -> Json:
        place = Place.at(*query.coordinates)
        return {**self._envelope(place), "data": self._records(place, [int(self._clock())], query.units)}

    def timeline(self, query: Query) -> Json:
        place = Place.at(*query.coordinates)
        running = self._hour()
        first = running if query.text("start") is None else query.instant("start", "wrong start time") // 3600
        size = max(query.count(PAGE_RECORDS), 1)
        oldest, newest = running - TIMELINE_HOURS_BACK, running + TIMELINE_HOURS_AHEAD
        hours = range(max(first, oldest), min(first + size - 1, newest) + 1)
        records = self._records(place, [hour * 3600 for hour in hours], query.units)
        links = {}
        if oldest < first:
            links["prev"] = self._link(query, first - size, size)
        if first + size <= newest:
            links["next"] = self._link(query, first + size, size)
        return {**self._envelope(place), "data": records, **links}

    def _link(self, query: Query, hour: int, size: int) -> str:
        # As the service does: plain http, and the key in full.
        given = {name: query.text(name) for name in ("lat", "lon", "units")}
        kept = {name: value for name, value in given.items() if value is not None}
        return f"http://{query.url}?{urlencode({**kept, 'start': hour * 3600, 'cnt': size, 'appid': query.key or ''})}"

    def _hour(self) -> int:
        return int(self._clock() // 3600)

    def _zone(self, place: Place) -> ZoneInfo:
        named = self._gazetteer.at(place.latitude, place.longitude)
        return ZoneInfo(time_zone_of(place.longitude, named))

    def _envelope(self, place: Place) -> Json:
        zone = self._zone(place)
        offset = datetime.fromtimestamp(self._clock(), zone).utcoffset() or timedelta()
        return {
            "lat": whole(place.latitude),
            "lon": whole(place.longitude),
            "timezone": zone.key,
            "timezone_offset": int(offset.total_seconds()),
        }

    def _records(self, place: Place, instants: Sequence[int], units: Units) -> list[Json]:
        """One record an instant (unix seconds)."""
        if not instants:
            return []
        weather = model.known(place, np.array(instants) / 3600.0, now=self._clock() / 3600.0)
        items = one_call_items(weather, model.uv_index(place, weather), units)
        for item in items:
            if item["dt"] < self._clock() - _FEW_DAYS:
                del item["uvi"]
            if (sun := model.sun_times(place, item["dt"] / 3600)) is not None:
                item["sunrise"], item["sunset"] = sun
        return items

    def _hourly(self, place: Place, hour: int, units: Units) -> list[Json]:
        instants = [(hour + i) * 3600 for i in range(HOURLY_RECORDS)]
        weather = model.known(place, np.array(instants) / 3600.0, now=self._clock() / 3600.0)
        items = one_call_items(weather, model.uv_index(place, weather), units)
        for item, chance in zip(items, numbers(weather.precipitation_probability, 2), strict=True):
            item["pop"] = chance
        return items

    def _daily(self, place: Place, units: Units) -> list[Json]:
        zone = self._zone(place)
        midnight = datetime.fromtimestamp(self._clock(), zone).replace(hour=0, minute=0, second=0, microsecond=0)
        return [self._day(place, midnight + timedelta(days=i), units) for i in range(DAILY_RECORDS)]

    def _day(self, place: Place, midnight: datetime, units: Units) -> Json:
        hours = midnight.timestamp() / 3600.0 + np.arange(24, dtype=np.float64)
        weather = model.known(place, hours, now=self._clock() / 3600.0)
        items = one_call_items(weather, model.uv_index(place, weather), units)
        temperature = numbers(TEMPERATURE[units](weather.temperature_c), 2)
        felt = numbers(TEMPERATURE[units](weather.apparent_temperature_c), 2)
        parts = {"morn": 6, "day": 12, "eve": 18, "night": 23}
        day = {name: value for name, value in items[12].items() if name not in ("rain", "snow", "visibility")}
        day["temp"] = {name: temperature[i] for name, i in parts.items()}
        day["temp"] |= {"min": min(temperature), "max": max(temperature)}
        day["feels_like"] = {name: felt[i] for name, i in parts.items()}
        day["uvi"] = max(item["uvi"] for item in items)
        day["pop"] = numbers(np.max(weather.precipitation_probability, keepdims=True), 2)[0]
        amounts = {"rain": float(weather.rain_mm.sum()), "snow": float(weather.snow_mm.sum())}
        # The same names hold objects by the hour and plain numbers by the day.
        return day | {name: whole(round(amount, 2)) for name, amount in amounts.items() if round(amount, 2)}
