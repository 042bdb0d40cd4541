"""The places file: what it proves, and what is said about a broken one."""

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from weather_dagster.errors import ConfigurationError
from weather_dagster.locations import Location, load_locations, select_locations
from weather_dagster.settings import RECORDED_LOCATIONS

PLACE = "{id: here, name: Here, country: FR, latitude: 1, longitude: 2, time_zone: Europe/Paris}"


def offsets(place: Location) -> set[timedelta]:
    """UTC offsets of the place through 2026."""
    zone = ZoneInfo(place.time_zone)
    return {offset for month in range(1, 13) if (offset := datetime(2026, month, 1, tzinfo=zone).utcoffset())}


def test_the_default_places_prove_what_they_were_chosen_for() -> None:
    places = load_locations()
    minutes = {place.id: sorted(o.total_seconds() / 60 for o in offsets(place)) for place in places}
    assert minutes["lyon"] == [60, 120]
    assert minutes["sydney"] == [600, 660]
    assert minutes["lord_howe"] == [630, 660], "daylight saving of half an hour"
    assert minutes["kolkata"] == [330]
    assert minutes["kathmandu"] == [345]
    assert minutes["kiritimati"] == [840], "beyond the date line"
    assert any(abs(place.latitude) > 66.6 for place in places), "a polar place"
    assert any(abs(place.latitude) < 1 for place in places), "the equator"
    assert any(place.country is None for place in places), "a place at sea"
    assert len(places) == 10


def test_the_recorded_airports_are_a_places_file() -> None:
    assert [place.id for place in load_locations(RECORDED_LOCATIONS)] == ["ewr", "jfk", "lga"]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (f"[{PLACE}, {PLACE}]", r"entries 1 and 2: id 'here' stands twice"),
        (f"[{PLACE.replace('latitude: 1', 'latitude: 91')}]", r"entry 1 \('here'\): latitude is 91: .*90"),
        (f"[{PLACE.replace('longitude: 2', 'longitude: -181')}]", r"entry 1 \('here'\): longitude is -181: .*-180"),
        (f"[{PLACE.replace('Europe/Paris', 'Europe/Pari')}]", r"time_zone is 'Europe/Pari': .*IANA"),
        (f"[{PLACE.replace('id: here', 'id: Not An Id')}]", r"entry 1 \('Not An Id'\): id is 'Not An Id'"),
        (f"[{PLACE}, {{id: there}}]", r"entry 2 \('there'\): name is missing"),
        (f"[{PLACE.replace('Europe/Paris', 'CET')}]", r"time_zone is 'CET': .*by region"),
        (f"[{PLACE.replace('country: FR', 'country: NO')}]", r"country is False: .*quote"),
        (f"[{PLACE.replace('latitude: 1', 'latitude: true')}]", r"latitude is True: "),
        (f"[{PLACE.replace('name: Here', 'name: ' + repr('  '))}]", r"name is '  ': "),
        ("[3]", r"entry 1: entry is 3"),
        ("{}", r"holds no list under `locations:`"),
        ("[", r"is no YAML"),
    ],
)
def test_a_broken_places_file_is_refused_with_file_entry_and_value(tmp_path: Path, entries: str, expected: str) -> None:
    file = tmp_path / "places.yaml"
    file.write_text(f"locations: {entries}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=expected) as refused:
        load_locations(file)
    assert str(file) in str(refused.value)


def test_a_missing_places_file_is_named_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml.*WEATHER_LOCATIONS"):
        load_locations(tmp_path / "nowhere.yaml")


def test_places_are_chosen_by_id_and_an_unknown_id_is_refused_with_the_known_ones() -> None:
    places = load_locations()
    assert [place.id for place in select_locations(places, ["quito", "lyon", "quito"])] == ["quito", "lyon"]
    assert select_locations(places, []) == places
    with pytest.raises(ConfigurationError, match=r"no place has the id 'atlantis'; known places: lyon, .*mid_atlantic"):
        select_locations(places, ["lyon", "atlantis"])
