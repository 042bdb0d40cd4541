"""The page in a real browser, from a file, without a network."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from weather_dagster.locations import load_locations
from weather_dagster.report.page import write_report
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.report.conftest import EMPTY_PLACE, HOSTILE_PLACE, NOW, WATCHED, GoldMaker

pytestmark = pytest.mark.integration

PLACE_CHARTS = (
    "temperature",
    "precipitation",
    "wind",
    "air-quality",
    "daily-temperature",
    "daily-precipitation",
)
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}

Opener = Callable[..., Page]


@pytest.fixture(scope="module")
def report(fortnight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with open_warehouse(fortnight, read_only=True) as warehouse:
        return write_report(
            warehouse, tmp_path_factory.mktemp("report") / "report.html", now=NOW, provider="simulator", watched=WATCHED
        )


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """``open_page(path, **context options)``; a request beyond the file or a message on the console fails the test."""
    contexts = []
    troubles: list[str] = []

    def refuse(route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            troubles.append(route.request.url)
            route.abort()

    def open_(path: Path, **options: Any) -> Page:
        context = browser.new_context(offline=True, **{"viewport": DESKTOP, **options})
        contexts.append(context)
        context.route("**/*", refuse)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector(f"#{PLACE_CHARTS[-1]} .main-svg, #{PLACE_CHARTS[-1]}[hidden]", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


def drawn(page: Page, chart: str) -> int:
    """Drawn lines, bars, markers and cells of a chart that have a size."""
    return page.evaluate(
        """id => [...document.querySelectorAll(
            ['.scatterlayer path', '.barlayer path', '.heatmaplayer image'].map(s => `#${id} .main-svg ${s}`).join(',')
        )].filter(mark => mark.getBoundingClientRect().width > 0).length""",
        chart,
    )


def test_every_chart_is_drawn_without_a_network(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    for chart in (*PLACE_CHARTS, "completeness"):
        assert drawn(page, chart) > 0, chart
        assert page.locator(f"#{chart}-summary").inner_text(), chart


def test_choosing_a_place_draws_that_place(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    page.select_option("#place", "lyon")
    lyon = page.evaluate("document.getElementById('temperature').data[0].y.filter(y => y !== null)")
    page.locator("button[data-place=quito]").click()
    quito = page.evaluate("document.getElementById('temperature').data[0].y.filter(y => y !== null)")
    assert max(lyon) < min(quito)
    assert page.locator("#place").input_value() == "quito"
    assert "America/Guayaquil" in page.locator("#temperature-summary").inner_text()
    assert page.locator("#daily-caption").inner_text() == "Local days of Quito"
    assert drawn(page, "temperature") > 0


def test_lines_are_not_drawn_across_missing_hours(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    page.select_option("#place", "lyon")
    pieces = page.locator("#temperature .scatterlayer .trace").first.locator("path.js-line").count()
    gaps = page.evaluate(
        """() => { const y = document.getElementById('temperature').data[0].y;
            return y.filter((value, i) => value === null && y[i - 1] !== null).length }"""
    )
    assert pieces == gaps + 1 > 1


def test_an_hour_between_two_gaps_is_drawn_as_a_dot(make_gold: GoldMaker, tmp_path: Path, open_page: Opener) -> None:
    warehouse = make_gold(locations=[HOSTILE_PLACE])
    with open_warehouse(warehouse) as opened:
        opened.connection.execute(
            "update gold.hourly_weather set wind_gust_ms = null where valid_hour_utc <> '2026-11-20T12:00Z'"
        )
        path = write_report(opened, tmp_path / "report.html", now=NOW, provider="simulator", watched=WATCHED)
    page = open_page(path)
    dots = page.locator("#wind .scatterlayer .trace").first.locator(".point")
    sizes = dots.evaluate_all(
        "nodes => nodes.map(node => node.getBoundingClientRect().width).filter(width => width > 1)"
    )
    assert len(sizes) == 1


def test_a_place_without_rows_shows_words_instead_of_empty_charts(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    page.select_option("#place", EMPTY_PLACE.id)
    for chart in PLACE_CHARTS:
        assert page.locator(f"#{chart}").is_hidden(), chart
        assert page.locator(f"#{chart}-summary").inner_text().startswith("There is no"), chart
    assert "no day of Nowhere yet" in page.locator("#daily").inner_text()
    page.select_option("#place", "lyon")
    assert all(drawn(page, chart) > 0 for chart in PLACE_CHARTS)


def test_recorded_hours_say_that_there_is_no_air_quality(
    make_gold: GoldMaker, tmp_path: Path, open_page: Opener
) -> None:
    with open_warehouse(make_gold(locations=[HOSTILE_PLACE], provider="recorded"), read_only=True) as warehouse:
        path = write_report(warehouse, tmp_path / "report.html", now=NOW, provider="recorded", watched=WATCHED)
    page = open_page(path)
    assert page.locator("#air-quality").is_hidden()
    assert page.locator("#air-quality-summary").inner_text() == (
        f"There is no air quality for {HOSTILE_PLACE.name} in this warehouse."
    )
    assert page.locator("#daily-caption").inner_text() == f"Local days of {HOSTILE_PLACE.name}"
    for chart in ("precipitation", "daily-precipitation"):
        assert "mm; rain and snow not told apart" in page.locator(f"#{chart}-summary").inner_text()
        assert page.evaluate("id => document.getElementById(id).data.map(trace => trace.name)", chart) == [
            "Precipitation"
        ]
    assert page.locator("b").count() == 0
    assert drawn(page, "temperature") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(report: Path, open_page: Opener, scheme: str) -> None:
    page = open_page(report, viewport=PHONE, color_scheme=scheme, is_mobile=True, has_touch=True)
    for place in load_locations():
        page.select_option("#place", place.id)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], place.id
        assert page.evaluate(
            "[...document.querySelectorAll('.chart:not([hidden])')].every(c => c.getBoundingClientRect().right <= 360)"
        )


def test_a_phone_shows_missing_and_present_hours_at_once(report: Path, open_page: Opener) -> None:
    page = open_page(report, viewport=PHONE, is_mobile=True, has_touch=True)
    for column in ("Missing", "Present"):
        box = page.locator("#hours thead th", has_text=column).first.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= PHONE["width"], column


def test_ages_go_on_after_the_page_was_made(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    page.clock.set_fixed_time(NOW + timedelta(hours=5))
    page.reload()
    card = page.locator(".card", has_text="Lyon")
    assert card.locator("time[data-age]").inner_text() == "5 h 13 min, old"
    assert card.locator(".stale dt").inner_text() == "Age"


def test_both_precipitation_charts_name_the_same_total(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    for place in load_locations():
        page.select_option("#place", place.id)
        hourly, daily = (
            re.findall(r"In all (\d+\.\d) mm", page.locator(f"#{chart}-summary").inner_text())
            for chart in ("precipitation", "daily-precipitation")
        )
        assert hourly == daily != [], place.id


def test_days_with_gaps_and_days_not_over_look_different(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    page.select_option("#place", "new_york")
    shapes = page.evaluate("document.getElementById('daily-temperature').data[0].marker.pattern.shape")
    assert set(shapes) == {"", "/", "."}
    shades = page.evaluate("[...new Set(document.getElementById('completeness').data[0].z.flat())]")
    assert {125, 200} < set(shades)
    assert min(shades) < 100
    summary = page.locator("#daily-temperature-summary").inner_text()
    missing, part = shapes.count("/"), shapes.count(".")
    assert f"{missing} day{'s' * (missing > 1)} with temperatures missing, hatched." in summary
    assert f"{part} day{'s' * (part > 1)} covered in part (begun late or not over yet), dotted." in summary


def test_no_place_shows_a_negative_zero(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    for place in load_locations():
        page.select_option("#place", place.id)
        text = page.locator("body").inner_text()
        assert "-0.0" not in text
        assert "\N{MINUS SIGN}0.0" not in text


def test_the_zone_of_the_reader_moves_nothing(report: Path, open_page: Opener) -> None:
    seen = []
    for zone in ("Pacific/Auckland", "America/Los_Angeles"):
        page = open_page(report, timezone_id=zone)
        page.select_option("#place", "kathmandu")
        ticks = page.locator("#temperature .xtick").all_text_contents()
        seen.append((ticks, page.locator("#temperature-summary").inner_text(), page.locator("#daily").inner_text()))
        assert page.locator("#temperature .xtitle").all_text_contents() == ["local time, Asia/Kathmandu"]
    assert seen[0][0]
    assert seen[0] == seen[1]


CONTRASTS = """() => {
    const parse = color => color.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = node => {
        for (; node; node = node.parentElement) {
            const color = parse(getComputedStyle(node).backgroundColor);
            if (color.length === 3 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const node of document.querySelectorAll('main *, header *, footer *')) {
        const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
        if (!own || node.closest('svg, option, noscript')) continue;
        const pair = [luminance(parse(getComputedStyle(node).color)), luminance(ground(node))].sort((a, b) => b - a);
        const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (contrast < 4.5) poor.push([node.tagName, node.className, node.textContent.slice(0, 30), contrast]);
    }
    return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_its_ground(report: Path, open_page: Opener, scheme: str) -> None:
    page = open_page(report, color_scheme=scheme)
    assert page.evaluate(CONTRASTS) == []
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(shade) > 600) == (scheme == "light")


def test_charts_follow_when_the_reader_turns_dark(report: Path, open_page: Opener) -> None:
    page = open_page(report, color_scheme="light")
    tick = page.locator("#temperature .xtick text").first
    light = tick.evaluate("node => getComputedStyle(node).fill")
    page.emulate_media(color_scheme="dark")
    expect(tick).not_to_have_css("fill", light)
    assert drawn(page, "temperature") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_several_providers_are_credited_readably_on_a_phone(
    make_gold: GoldMaker, tmp_path: Path, open_page: Opener, scheme: str
) -> None:
    with open_warehouse(make_gold(provider="open_meteo")) as opened:
        for table in ("gold.hourly_weather", "gold.latest_conditions", "silver.air_quality"):
            opened.connection.execute(f"update {table} set provider = 'openweather' where location_id = 'lyon'")
        opened.connection.execute("update gold.latest_conditions set provider = 'openweather'")
        path = write_report(opened, tmp_path / "report.html", now=NOW, provider="openweather", watched=WATCHED)
    page = open_page(path, viewport=PHONE, color_scheme=scheme, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.evaluate(CONTRASTS) == []
    for name in ("Weather data by Open-Meteo.com", "Weather data provided by OpenWeather", "ODbL", "CC BY 4.0"):
        expect(page.locator("footer").get_by_role("link", name=name)).to_be_visible()
    sources = page.locator(".card dd", has_text="; air quality Open-Meteo")
    assert sources.count() == len(load_locations()) - 1


def test_tables_charts_and_controls_have_names(report: Path, open_page: Opener) -> None:
    page = open_page(report)
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    assert page.locator("table").count() == page.locator("table > caption").count() == 4
    for chart in page.locator(".chart").all():
        assert page.locator(f"#{chart.get_attribute('aria-labelledby')}").inner_text()
    assert page.get_by_label("Place", exact=True).evaluate("node => node.tagName") == "SELECT"
