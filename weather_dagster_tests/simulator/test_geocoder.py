"""OpenWeather's geocoder over the places that the simulator knows."""

import pytest

from weather_dagster_tests.simulator.conftest import LYON, Get

DIRECT = "/geo/1.0/direct"
REVERSE = "/geo/1.0/reverse"


def test_a_name_gives_its_places(get: Get):
    assert get(DIRECT, q="lyon").json() == [{"name": "Lyon", "lat": 45.76, "lon": 4.84, "country": "FR"}]
    assert [place["country"] for place in get(DIRECT, q="London").json()] == ["GB", "CA"]
    assert [place["country"] for place in get(DIRECT, q="London", limit=1).json()] == ["GB"]


@pytest.mark.parametrize(
    ("asked", "states"),
    [
        ("Paris,US", ["Texas", "Tennessee"]),
        ("Paris,Texas,US", ["Texas"]),
        ("Paris,Nowhere,FR", ["Ile-de-France"]),
        ("Paris,GB", []),
    ],
)
def test_country_and_american_state_tell_places_apart(get: Get, asked: str, states: list[str]):
    assert [place["state"] for place in get(DIRECT, q=asked).json()] == states


def test_accents_and_case_do_not_count(get: Get):
    assert get(DIRECT, q="ZURICH,ch").json()[0]["name"] == "Zürich"


def test_no_match_is_an_empty_list(get: Get):
    response = get(DIRECT, q="Atlantis")
    assert (response.status_code, response.content) == (200, b"[]")


@pytest.mark.parametrize("asked", [None, "", "  ", ",FR"])
def test_nothing_to_search_for_is_refused(get: Get, asked: str | None):
    response = get(DIRECT, q=asked)
    assert (response.status_code, response.text) == (400, '{"cod":"400","message":"Nothing to geocode"}')


def test_a_point_gives_the_places_around(get: Get):
    assert [place["name"] for place in get(REVERSE, limit=1, **LYON).json()] == ["Lyon"]
    assert get(REVERSE, lat=50.0, lon=-30.0).json() == []
    assert get(REVERSE, lat=91, lon=0).status_code == 400
