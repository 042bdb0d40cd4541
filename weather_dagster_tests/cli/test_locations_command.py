"""``weather locations``: what is found is shown, what is picked is written, what is wrong is told."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from weather_dagster.errors import ConfigurationError, RequestRefused
from weather_dagster.geocoding import Ask
from weather_dagster.locations import DEFAULT_FILE, load_locations
from weather_dagster.locations_command import create_app
from weather_dagster.settings import Settings

PLACES = [
    {"name": "Paris", "lat": 48.8588897, "lon": 2.3200410, "country": "FR", "state": "Île-de-France"},
    {"name": "Paris", "lat": 33.6617962, "lon": -95.555513, "country": "US", "state": "Texas"},
    {"name": "Tromsø", "lat": 69.6516345, "lon": 18.9558585, "country": "NO"},
    {"name": "東京", "lat": 35.6828387, "lon": 139.7594549, "country": "JP"},
    {"name": "[/bold]", "lat": 1.0, "lon": 2.0, "country": "FR"},
    {"name": "…", "lat": 1.0, "lon": 2.0, "country": "FR"},
]


def answer(path: str, parameters: Mapping[str, str | int]) -> Any:
    """What a geocoder in OpenWeather's format answers that knows ``PLACES`` and the default ones."""
    assert path == "/geo/1.0/direct"
    name, _, country = str(parameters["q"]).partition(",")
    if name == "Refused":
        raise RequestRefused("the key is refused")
    known = [{"name": p.name, "lat": p.latitude, "lon": p.longitude, "country": p.country} for p in load_locations()]
    found = [place for place in PLACES + known if place["name"] == name and country in ("", place["country"])]
    return found[: int(parameters["limit"])]


@contextmanager
def connect(settings: Settings) -> Iterator[Ask]:
    """A provider whose geocoder is ``answer``."""
    assert settings.provider == "simulator"
    yield answer


APP = create_app(connect)
Locations = Callable[..., Result]


@pytest.fixture
def locations(clean_environment: Path) -> Locations:
    """Runs ``weather locations ARGUMENTS`` in an empty folder; keyword arguments are settings."""

    def run(*arguments: str, **settings: str) -> Result:
        return CliRunner().invoke(APP, arguments, env={"COLUMNS": "200", **settings})

    return run


def refusal(result: Result) -> str:
    """The message of a command that ends in an error of ours."""
    assert isinstance(result.exception, ConfigurationError), result.output
    return str(result.exception)


def test_the_places_of_the_file_are_listed(locations: Locations) -> None:
    result = locations("list")
    assert result.exit_code == 0
    assert "Kathmandu" in result.output


def test_a_search_shows_numbered_matches_with_their_zones_and_writes_nothing(
    locations: Locations, clean_environment: Path
) -> None:
    result = locations("search", "Paris")
    assert result.exit_code == 0, result.output
    (first, second) = [line.split("│")[1:-1] for line in result.output.splitlines() if "Paris" in line]
    assert [cell.strip() for cell in first] == [
        "1", "Paris", "Île-de-France", "FR", "48.8589", "2.3200", "Europe/Paris"
    ]  # fmt: skip
    assert [cell.strip() for cell in second][-1] == "America/Chicago"
    assert "--pick" in result.output
    assert list(clean_environment.iterdir()) == []


def test_as_many_matches_are_shown_as_are_asked_for(locations: Locations) -> None:
    assert "Texas" not in locations("search", "Paris", "--count", "1").output


def test_without_a_places_file_a_pick_makes_one_and_says_how_to_use_it(
    locations: Locations, clean_environment: Path
) -> None:
    result = locations("search", "Paris,US", "--pick", "1")
    assert result.exit_code == 0, result.output
    assert "WEATHER_LOCATIONS=locations.yaml" in result.output
    (place,) = load_locations(clean_environment / "locations.yaml")
    assert place.model_dump() == {
        "id": "paris", "name": "Paris", "country": "US", "latitude": 33.6618, "longitude": -95.5555,
        "time_zone": "America/Chicago",
    }  # fmt: skip
    assert "Paris" in locations("list", WEATHER_LOCATIONS="locations.yaml").output


def test_a_pick_is_added_to_the_file_of_the_setting_whose_comments_stay(
    locations: Locations, clean_environment: Path
) -> None:
    file = clean_environment / "places.yaml"
    file.write_bytes(DEFAULT_FILE.read_bytes())
    result = locations("search", "Tromsø", "--pick", "1", WEATHER_LOCATIONS=str(file))
    assert "tromso written into" in result.output
    assert "Set WEATHER_LOCATIONS" not in result.output
    assert file.read_text("utf-8") == DEFAULT_FILE.read_text("utf-8") + (
        "  - {id: tromso, name: Tromsø, country: 'NO', latitude: 69.6516, longitude: 18.9559, time_zone: Europe/Oslo}\n"
    )
    assert not (clean_environment / "locations.yaml").exists()


def test_ids_are_made_of_names_in_any_script_and_stay_unique(locations: Locations, clean_environment: Path) -> None:
    for arguments in (("Paris", "--pick", "1"), ("Paris", "--pick", "2"), ("東京", "--pick", "1")):
        assert locations("search", *arguments).exit_code == 0
    ids = [place.id for place in load_locations(clean_environment / "locations.yaml")]
    assert ids[:2] == ["paris", "paris_2"]
    assert ids[2].isascii()


def test_an_id_can_be_given_and_one_that_is_taken_or_none_is_refused(
    locations: Locations, clean_environment: Path
) -> None:
    assert locations("search", "Paris", "--pick", "1", "--id", "home").exit_code == 0
    taken = refusal(locations("search", "Paris", "--pick", "2", "--id", "home"))
    assert "'home' is taken in locations.yaml" in taken
    assert "--id" in taken
    assert "id is 'My Home'" in refusal(locations("search", "Paris", "--pick", "2", "--id", "My Home"))
    assert [place.id for place in load_locations(clean_environment / "locations.yaml")] == ["home"]


def test_a_name_of_which_no_id_can_be_made_asks_for_one(locations: Locations) -> None:
    assert "give one with --id" in refusal(locations("search", "…", "--pick", "1"))


def test_a_place_that_is_there_already_is_named(locations: Locations) -> None:
    assert locations("search", "Paris", "--pick", "1", "--id", "home").exit_code == 0
    assert "locations.yaml already, as 'home' (48.8589, 2.32)" in refusal(locations("search", "Paris", "--pick", "1"))


def test_a_name_that_is_not_known_is_answered_with_the_ways_out(locations: Locations) -> None:
    told = refusal(locations("search", "Atlantis"))
    assert "simulator knows no place named 'Atlantis'" in told
    assert "spelling" in told
    assert "country code" in told


def test_a_blank_name_is_refused_before_anyone_is_asked(locations: Locations) -> None:
    assert "blank" in refusal(locations("search", "  "))


def test_a_number_that_no_match_has_is_refused_with_those_that_one_has(locations: Locations) -> None:
    assert "no match has the number 3; pick 1 to 2" in refusal(locations("search", "Paris", "--pick", "3"))


def test_a_file_that_cannot_be_written_is_named(locations: Locations) -> None:
    told = refusal(locations("search", "Paris", "--pick", "1", WEATHER_LOCATIONS="none/places.yaml"))
    assert "none/places.yaml cannot be written" in told


def test_the_recorded_provider_takes_no_places(locations: Locations) -> None:
    told = refusal(locations("search", "Paris", "--pick", "1", WEATHER_PROVIDER="recorded"))
    assert "fixed" in told
    assert "WEATHER_PROVIDER" in told


def test_what_the_provider_refuses_ends_the_command(locations: Locations) -> None:
    assert isinstance(locations("search", "Refused").exception, RequestRefused)


def test_a_name_that_looks_like_markup_is_shown_as_it_is(locations: Locations) -> None:
    assert "[/bold]" in locations("search", "[/bold]").output


@pytest.mark.parametrize(("typed", "written"), [("2\n", ["America/Chicago"]), ("\n", [])])
def test_at_a_terminal_the_number_is_asked_for(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, typed: str, written: list[str]
) -> None:
    pty = pytest.importorskip("pty", reason="no terminal can be made on this system")
    person, terminal = pty.openpty()
    os.write(person, typed.encode())
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        APP(["search", "Paris"], standalone_mode=False)
    os.close(person)
    file = clean_environment / "locations.yaml"
    assert ([place.time_zone for place in load_locations(file)] if file.exists() else []) == written


def test_a_check_of_the_default_places_finds_nothing(locations: Locations) -> None:
    result = locations("check")
    assert result.exit_code == 0, result.output
    assert "10 places checked, nothing is wrong" in result.output
    assert "mid_atlantic" in result.output, "the point at sea is named as not compared"


def test_a_check_tells_every_fault_with_its_way_out_and_exits_with_1(
    locations: Locations, clean_environment: Path
) -> None:
    zone = "country: FR, time_zone: Europe/Paris"
    (clean_environment / "places.yaml").write_text(
        f"""locations:
        - {{id: swapped, name: Paris, latitude: 2.32, longitude: 48.86, {zone}}}
        - {{id: abroad, name: Lyon, latitude: 45.76, longitude: 4.84, country: CH, time_zone: Europe/Paris}}
        - {{id: abroad_too, name: Lyon, latitude: 45.761, longitude: 4.84, {zone}}}
        - {{id: cottage, name: Cottage, latitude: 44.5, longitude: 1.5, country: FR, time_zone: Europe/London}}
        """,
        encoding="utf-8",
    )
    result = locations("check", WEATHER_LOCATIONS="places.yaml")
    assert result.exit_code == 1
    text = " ".join(result.output.replace("│", " ").split())
    for part in (
        "latitude and longitude are swapped",
        "lies in FR according to simulator",
        "111 m from",
        "not Europe/London",
        "write time_zone: Europe/Paris",
        "lie at sea: cottage",
    ):
        assert part in text


def test_what_is_found_without_the_provider_is_told_although_the_provider_refuses(
    locations: Locations, clean_environment: Path
) -> None:
    place = "{id: here, name: Refused, country: FR, latitude: 45.76, longitude: 4.84, time_zone: Europe/London}"
    (clean_environment / "places.yaml").write_text(f"locations: [{place}]", encoding="utf-8")
    result = locations("check", WEATHER_LOCATIONS="places.yaml")
    assert isinstance(result.exception, RequestRefused)
    assert "not Europe/London" in result.output


def test_the_recorded_places_are_checked_without_a_geocoder(locations: Locations) -> None:
    result = locations("check", WEATHER_PROVIDER="recorded")
    assert result.exit_code == 0, result.output
    assert "names were not compared" in result.output
    assert "3 places checked" in result.output


def test_three_hundred_places_are_checked_and_two_in_one_grid_cell_are_fine(
    locations: Locations, clean_environment: Path
) -> None:
    rows = [
        f"  - {{id: p{n}, name: Paris, country: FR, latitude: {48.7 + n // 20 * 0.02:.2f}, "
        f"longitude: {2.1 + n % 20 * 0.02:.2f}, time_zone: Europe/Paris}}\n"
        for n in range(300)
    ]
    (clean_environment / "places.yaml").write_text("locations:\n" + "".join(rows), encoding="utf-8")
    result = locations("check", WEATHER_LOCATIONS="places.yaml")
    assert result.exit_code == 0, result.output
    assert "300 places checked, nothing is wrong" in result.output
