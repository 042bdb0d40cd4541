"""The places file: what it proves, and what is said about a broken one."""

from datetime import datetime, timedelta
from pathlib import Path
from textwrap import dedent
from zoneinfo import ZoneInfo

import pytest

from weather_dagster.errors import ConfigurationError
from weather_dagster.locations import (
    DEFAULT_FILE,
    Location,
    add_location,
    load_locations,
    make_location,
    select_locations,
)
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


OSLO = Location(id="oslo", name="Oslo", country="NO", latitude=59.9133, longitude=10.739, time_zone="Europe/Oslo")
OSLO_LINE = "{id: oslo, name: Oslo, country: 'NO', latitude: 59.9133, longitude: 10.739, time_zone: Europe/Oslo}"
OSLO_BLOCK = """\
- id: oslo
  name: Oslo
  country: 'NO'
  latitude: 59.9133
  longitude: 10.739
  time_zone: Europe/Oslo
"""


def after_adding(tmp_path: Path, text: str) -> str:
    """What a file of this text holds, byte by byte, after Oslo was added to it."""
    file = tmp_path / "places.yaml"
    file.write_bytes(text.encode())
    before = load_locations(file)
    add_location(file, OSLO)
    assert load_locations(file) == (*before, OSLO)
    assert list(tmp_path.iterdir()) == [file], "no draft is left"
    return file.read_bytes().decode()


def test_a_missing_places_file_is_made_with_its_first_place(tmp_path: Path) -> None:
    file = tmp_path / "places.yaml"
    add_location(file, OSLO)
    assert file.read_text(encoding="utf-8") == f"locations:\n  - {OSLO_LINE}\n"
    assert load_locations(file) == (OSLO,)


def test_a_place_is_added_behind_the_last_one_and_all_else_stays_as_it_is(tmp_path: Path) -> None:
    text = DEFAULT_FILE.read_text(encoding="utf-8")
    assert after_adding(tmp_path, text) == f"{text}  - {OSLO_LINE}\n"


def test_an_entry_over_several_lines_is_followed_by_one_of_the_same_layout(tmp_path: Path) -> None:
    head = dedent("""\
        # My places
        locations:
        # the first
        - time_zone: Europe/Paris   # zone first

          id: "here"
          name:   Here
          latitude: 45.760
          longitude: 4.84  # degrees
        """)
    tail = "\n# what else I keep here\nmine: {a:   1}\n"
    assert after_adding(tmp_path, head + tail) == head + OSLO_BLOCK + tail


def test_the_indent_and_the_line_ends_of_a_file_are_kept(tmp_path: Path) -> None:
    text = f"locations:\r\n    -   {PLACE} # here\r\n# end\r\n"
    expected = f"locations:\r\n    -   {PLACE} # here\r\n    -   {OSLO_LINE}\r\n# end\r\n"
    assert after_adding(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"locations: [{PLACE}] # all", f"locations: [{PLACE}, {OSLO_LINE}] # all"),
        (f"locations:\n- {PLACE}", f"locations:\n- {PLACE}\n- {OSLO_LINE}\n"),
        (f"\ufefflocations:\n- {PLACE}\n...\n", f"\ufefflocations:\n- {PLACE}\n- {OSLO_LINE}\n...\n"),
        (f"{{locations: [{PLACE}]}}", f"{{locations: [{PLACE}, {OSLO_LINE}]}}"),
    ],
    ids=["list in brackets", "no line end", "byte order mark", "all in brackets"],
)
def test_other_layouts_take_a_place_too(tmp_path: Path, text: str, expected: str) -> None:
    assert after_adding(tmp_path, text) == expected


def test_a_layout_that_takes_no_entry_is_refused_with_the_entry_to_write_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "places.yaml"
    text = f"first: &one\n  {PLACE}\nlocations:\n  - *one\n"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"places\.yaml.*write it by hand: \{id: oslo, .*Europe/Oslo\}"):
        add_location(file, OSLO)
    assert file.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [file]


def test_a_broken_places_file_takes_no_place(tmp_path: Path) -> None:
    file = tmp_path / "places.yaml"
    file.write_text("locations: []\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"places\.yaml holds no list"):
        add_location(file, OSLO)


def test_a_place_behind_a_link_is_added_to_the_file_itself_whose_mode_stays(tmp_path: Path) -> None:
    file, link = tmp_path / "places.yaml", tmp_path / "link.yaml"
    file.write_text(f"locations: [{PLACE}]\n", encoding="utf-8")
    file.chmod(0o640)
    link.symlink_to(file)
    add_location(link, OSLO)
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert len(load_locations(file)) == 2


def test_a_places_file_that_cannot_be_written_is_named_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none/places\.yaml cannot be written: .*WEATHER_LOCATIONS"):
        add_location(tmp_path / "none" / "places.yaml", OSLO)
    with pytest.raises(ConfigurationError, match=r"WEATHER_LOCATIONS"):
        add_location(tmp_path, OSLO)


def test_a_place_with_values_that_no_place_can_have_is_not_made() -> None:
    with pytest.raises(ConfigurationError, match=r"Oslo cannot be a place: id is 'Oslo 1': .*pattern"):
        make_location(**{**OSLO.model_dump(), "id": "Oslo 1"})
