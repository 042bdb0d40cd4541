"""What geocoders are asked and answer, the zone of a point, and what the check of places finds."""

import json
from collections.abc import Sequence
from typing import Any
from zoneinfo import available_timezones

import pytest
import tzfpy
from hypothesis import given
from hypothesis import strategies as st

from weather_dagster.errors import ConfigurationError, MalformedAnswer
from weather_dagster.geocoding import (
    OPEN_METEO,
    OPENWEATHER,
    Finding,
    Geocoder,
    Match,
    Parameters,
    check_names,
    check_offline,
    choose_zone,
    search,
    zone_of,
    zones_at,
)
from weather_dagster.locations import Location, is_known_zone, load_locations

LYON = {"name": "Lyon", "lat": 45.7578137, "lon": 4.8320114, "country": "FR", "state": "Auvergne-Rhône-Alpes"}
LYONS = {"name": "Lyons", "lat": 43.0642, "lon": -76.9902, "country": "US", "state": "New York"}
OPENWEATHER_ANSWER = [{**LYON, "local_names": {"en": "Lyon", "ascii": "Lyon"}}, LYONS]
OPEN_METEO_ANSWER = {
    "results": [
        {
            "id": 2996944, "name": "Lyon", "latitude": 45.74848, "longitude": 4.84669, "elevation": 173.0,
            "feature_code": "PPLA", "country_code": "FR", "timezone": "Europe/Paris", "population": 522250,
            "postcodes": ["69001"], "country": "France", "admin1": "Auvergne-Rhône-Alpes",
        },
        {"id": 1, "name": "Lyon Shoal", "latitude": -10, "longitude": 100},
    ],
    "generationtime_ms": 0.6,
}  # fmt: skip


def place(**changes: Any) -> Location:
    """Lyon, as it should stand in a file, with changes."""
    right = {"id": "lyon", "name": "Lyon", "country": "FR", "latitude": 45.76, "longitude": 4.84}
    return Location.model_validate({**right, "time_zone": "Europe/Paris", **changes})


class Gazetteer:
    """An OpenWeather search over these items, by name and country; counts what it is asked."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.items = items
        self.asked: list[str] = []

    def __call__(self, path: str, parameters: Parameters) -> Any:
        assert path == "/geo/1.0/direct"
        self.asked.append(str(parameters["q"]))
        name, _, country = self.asked[-1].partition(",")
        return [item for item in self.items if item["name"] == name and country in ("", item["country"])]


def names_checked(*places: Location, items: Sequence[dict[str, Any]] = (LYON,)) -> tuple[list[Finding], list[Location]]:
    return check_names(OPENWEATHER, Gazetteer(*items), places)


def test_openweather_is_asked_for_five_matches_at_most_with_the_country_behind_the_name() -> None:
    assert OPENWEATHER.request("Lyon", 3, None) == ("/geo/1.0/direct", {"q": "Lyon", "limit": 3})
    assert OPENWEATHER.request(" Springfield, IL , US", 100, None)[1] == {"q": "Springfield,IL,US", "limit": 5}
    assert OPENWEATHER.request("Lyon", 5, "FR")[1]["q"] == "Lyon,FR"


def test_open_meteo_is_asked_in_english_with_the_country_as_a_parameter_of_its_own() -> None:
    expected = {"name": "Lyon", "count": 20, "language": "en", "format": "json"}
    assert OPEN_METEO.request("Lyon ", 20, None) == ("/v1/search", expected)
    assert OPEN_METEO.request("Lyon", 20, "FR")[1] == {**expected, "countryCode": "FR"}


def test_both_geocoders_give_the_same_kind_of_match() -> None:
    assert OPENWEATHER.read(OPENWEATHER_ANSWER) == [
        Match("Lyon", "FR", "Auvergne-Rhône-Alpes", 45.7578137, 4.8320114, None),
        Match("Lyons", "US", "New York", 43.0642, -76.9902, None),
    ]
    assert OPEN_METEO.read(OPEN_METEO_ANSWER) == [
        Match("Lyon", "FR", "Auvergne-Rhône-Alpes", 45.74848, 4.84669, "Europe/Paris"),
        Match("Lyon Shoal", None, None, -10.0, 100.0, None),
    ]


def test_an_answer_without_a_match_is_no_fault() -> None:
    assert OPENWEATHER.read([]) == []
    assert OPEN_METEO.read({"generationtime_ms": 0.2}) == []


@pytest.mark.parametrize(
    ("geocoder", "document", "expected"),
    [
        (OPENWEATHER, {"cod": "404", "message": "not found"}, r"openweather .*/geo/1\.0/direct.*the answer"),
        (OPENWEATHER, [{**LYON, "lat": 91}], r"0\.lat: .*90.*is 91"),
        (OPENWEATHER, [{**LYON, "lat": "45.7"}], r"0\.lat: "),
        (OPENWEATHER, [LYON, {**LYON, "lon": float("nan")}], r"1\.lon: "),
        (OPENWEATHER, [{**LYON, "country": "France"}], r"0\.country: "),
        (OPENWEATHER, [{**LYON, "name": " "}], r"0\.name: "),
        (OPENWEATHER, None, r"the answer: "),
        (OPEN_METEO, {"error": True, "reason": "nothing"}, r"open_meteo .*/v1/search.*error: "),
        (OPEN_METEO, {"results": [{"name": "Lyon"}]}, r"results\.0\.latitude: "),
        (OPEN_METEO, [], r"the answer: "),
    ],
)
def test_an_answer_of_another_shape_is_malformed_and_says_where(
    geocoder: Geocoder, document: Any, expected: str
) -> None:
    with pytest.raises(MalformedAnswer, match=expected):
        geocoder.read(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "lat", "lon", "country", "results", "latitude", "longitude", "error"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_document_makes_a_geocoder_fail_in_another_way_or_gives_a_point_off_the_earth(document: Any) -> None:
    for geocoder in (OPENWEATHER, OPEN_METEO):
        try:
            matches = geocoder.read(document)
        except MalformedAnswer:
            continue
        assert all(abs(match.latitude) <= 90 and abs(match.longitude) <= 180 and match.name for match in matches)


def test_a_search_asks_once_and_reads_what_comes() -> None:
    gazetteer = Gazetteer(LYON, LYONS)
    assert [match.country for match in search(OPENWEATHER, gazetteer, "Lyon", 5)] == ["FR"]
    assert search(OPENWEATHER, gazetteer, "Lion", 5) == []
    assert gazetteer.asked == ["Lyon", "Lion"]


def test_every_default_place_lies_in_the_zone_it_names() -> None:
    for default in load_locations():
        assert zones_at(default.latitude, default.longitude) == (default.time_zone,)
    assert check_offline(load_locations()) == []


def test_every_zone_on_the_map_is_one_that_a_place_may_have() -> None:
    assert [zone for zone in tzfpy.timezonenames() if not is_known_zone(zone)] == []
    assert len(tzfpy.timezonenames()) > 400


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_every_point_of_the_earth_has_a_zone_that_can_be_written(latitude: float, longitude: float) -> None:
    assert zone_of(Match("somewhere", None, None, latitude, longitude, None)) in available_timezones()


def test_where_people_keep_two_times_the_zone_that_the_geocoder_tells_is_taken() -> None:
    urumqi = (43.8, 87.6)
    assert set(zones_at(*urumqi)) == {"Asia/Shanghai", "Asia/Urumqi"}
    assert zone_of(Match("Ürümqi", "CN", None, *urumqi, "Asia/Urumqi")) == "Asia/Urumqi"
    assert zone_of(Match("Ürümqi", "CN", None, *urumqi, None)) == "Asia/Shanghai"
    assert zone_of(Match("Ürümqi", "CN", None, *urumqi, "Europe/Paris")) == "Asia/Shanghai"


def test_a_zone_that_is_not_the_one_of_the_coordinates_is_found_without_a_network() -> None:
    (finding,) = check_offline([place(time_zone="Europe/London")])
    assert finding == Finding(
        "lyon",
        "the time zone at 45.76, 4.84 is Europe/Paris, not Europe/London",
        "write time_zone: Europe/Paris, or correct the coordinates",
    )


def test_two_names_of_one_zone_are_the_same_and_zones_that_once_differed_are_not() -> None:
    kolkata = place(id="kolkata", latitude=22.57, longitude=88.36, time_zone="Asia/Calcutta")
    assert check_offline([kolkata]) == []
    (finding,) = check_offline([place(time_zone="Europe/Berlin")])
    assert "not Europe/Berlin" in finding.what


@pytest.mark.parametrize(
    ("changes", "mistake", "right"),
    [
        ({"latitude": 4.84, "longitude": 45.76}, "swapped", "latitude: 45.76, longitude: 4.84"),
        ({"latitude": -45.76}, "sign of the latitude", "latitude: 45.76, longitude: 4.84"),
        (
            {"latitude": 40.71, "longitude": 74.01, "time_zone": "America/New_York"},
            "sign of the longitude",
            "latitude: 40.71, longitude: -74.01",
        ),
        (
            {"latitude": 33.87, "longitude": -151.21, "time_zone": "Australia/Sydney"},
            "signs of latitude and longitude",
            "latitude: -33.87, longitude: 151.21",
        ),
    ],
)
def test_swapped_and_negated_coordinates_are_recognised_by_the_zone(
    changes: dict[str, Any], mistake: str, right: str
) -> None:
    (finding,) = check_offline([place(**changes)])
    assert mistake in finding.what
    assert right in finding.way_out


def test_two_places_within_a_kilometre_are_found_and_two_in_one_grid_cell_are_fine() -> None:
    here, next_door, across = place(), place(id="bellecour", latitude=45.768), place(id="croix_rousse", latitude=45.79)
    (finding,) = check_offline([here, across, next_door])
    assert {finding.place, *finding.what.split(":")[0].split()} >= {"lyon", "bellecour"}
    assert "890 m" in finding.what
    assert check_offline([here, across]) == []


def test_neighbours_are_found_over_the_date_line_and_at_the_pole() -> None:
    fiji = {"name": "Fiji", "country": "FJ", "latitude": -16.0, "time_zone": "Pacific/Fiji"}
    line = [place(id="west", longitude=179.999, **fiji), place(id="east", longitude=-179.999, **fiji)]
    pole = {"name": "Pole", "country": None, "latitude": 89.999, "time_zone": "Etc/GMT"}
    poles = [place(id="one", longitude=0.0, **pole), place(id="other", longitude=3.0, **pole)]
    assert [finding.what.partition(" m ")[0] for finding in check_offline([*line, *poles])] == ["is 214", "is 6"]


def test_a_place_that_lies_where_the_geocoder_knows_it_costs_one_call() -> None:
    gazetteer = Gazetteer(LYON)
    assert check_names(OPENWEATHER, gazetteer, [place(latitude=45.9)]) == ([], [])
    assert gazetteer.asked == ["Lyon,FR"]


def test_of_several_places_of_a_name_the_nearest_counts() -> None:
    paris = [{"name": "Paris", "lat": 48.86, "lon": 2.32, "country": "FR"}]
    texas = [{"name": "Paris", "lat": 33.66, "lon": -95.56, "country": "US"}]
    here = place(id="paris", name="Paris", country=None, latitude=33.7, longitude=-95.5, time_zone="America/Chicago")
    assert names_checked(here, items=paris + texas) == ([], [])


def test_a_place_far_from_where_its_name_lies_is_found_with_the_distance_and_the_right_point() -> None:
    findings, unknown = names_checked(place(latitude=48.0))
    assert unknown == []
    assert findings == [
        Finding(
            "lyon",
            "48, 4.84 is 249 km from Lyon, Auvergne-Rhône-Alpes, FR as openweather knows it",
            "write latitude: 45.7578, longitude: 4.8320, or give the name of what is meant",
        )
    ]


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"latitude": 4.84, "longitude": 45.76}, "latitude and longitude are swapped"),
        ({"longitude": -4.84}, "the sign of the longitude is wrong"),
        ({"latitude": -45.76}, "the sign of the latitude is wrong"),
        ({"latitude": -45.76, "longitude": -4.84}, "the signs of latitude and longitude are wrong"),
    ],
)
def test_swapped_and_negated_coordinates_are_recognised_by_the_name(changes: dict[str, Any], mistake: str) -> None:
    ((finding,), _) = names_checked(place(**changes))
    assert finding.what.endswith(mistake)
    assert "latitude: 45.7578, longitude: 4.8320" in finding.way_out


def test_another_country_than_the_one_of_the_file_is_found() -> None:
    ((finding,), _) = names_checked(place(country="CH"))
    assert finding.what == "Lyon lies in FR according to openweather; the file says CH"
    assert finding.way_out == 'write country: "FR"'


def test_a_name_that_the_geocoder_does_not_know_in_that_country_is_told_and_not_blamed() -> None:
    office, elsewhere = place(name="Our office"), place(country="CH", latitude=47, longitude=8)
    assert names_checked(office, elsewhere) == ([], [office, elsewhere])


def test_a_point_at_sea_has_a_name_of_its_own_and_is_not_asked_for() -> None:
    sea = place(id="sea", name="Lyon", country=None, latitude=50, longitude=-30, time_zone="Etc/GMT+2")
    gazetteer = Gazetteer(LYON)
    assert check_names(OPENWEATHER, gazetteer, [sea]) == ([], [sea])
    assert gazetteer.asked == []


def test_three_hundred_places_are_checked_with_one_call_each_and_each_fault_is_found() -> None:
    items = [
        {"name": f"Place {n}", "lat": 46 + n // 20 * 0.1, "lon": 2 + n % 20 * 0.1, "country": "FR"} for n in range(300)
    ]
    places = [
        place(id=f"place_{n}", name=item["name"], latitude=item["lat"], longitude=item["lon"])
        for n, item in enumerate(items)
    ]
    places[17] = place(id="place_17", name="Place 17", latitude=-places[17].latitude, longitude=places[17].longitude)
    places[250] = places[250].model_copy(update={"time_zone": "Europe/Lisbon"})
    places[299] = places[299].model_copy(update={"latitude": places[298].latitude, "longitude": places[298].longitude})
    gazetteer = Gazetteer(*json.loads(json.dumps(items)))
    findings, unknown = check_names(OPENWEATHER, gazetteer, places)
    assert unknown == []
    assert [finding.place for finding in findings] == ["place_17"]
    assert len(gazetteer.asked) == 301
    assert {finding.place for finding in check_offline(places)} == {"place_17", "place_250", "place_298"}


@pytest.mark.parametrize(("zones", "told"), [(["Europe/Lugdunum", "CET"], "Europe/Lugdunum or CET"), ([], "unknown")])
def test_a_match_whose_zone_no_place_may_have_is_refused_with_the_way_out(zones: list[str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"time zone of Lyon \(45\.76, 4\.84\) is {told}; .*upgrade tzdata"):
        choose_zone(Match("Lyon", "FR", None, 45.76, 4.84, "Europe/Lugdunum"), zones)
