"""The doctor names what is wrong, with the fewest calls: against the simulator in that state, over real sockets."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance

from weather_dagster.automation.instance import prepare_dagster_home
from weather_dagster.doctor import Cause, Finding, Verdict, examine
from weather_dagster.hours import utc_now
from weather_dagster.settings import Settings
from weather_dagster.simulator.accounts import Account, account_of_plan
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.automation.beats import beat
from weather_dagster_tests.conftest import KEY, Provider, Weather, free_port, serving
from weather_dagster_tests.postgres import with_parts

pytestmark = pytest.mark.integration

HOOK = "json://127.0.0.1/hook"
"""Where alerts would go: no part of a doctor's look sends any."""
CURRENT = "/data/2.5/weather"
HISTORY = "/data/2.5/history/city"
AIR = "/data/2.5/air_pollution/history"
PLACE = "{id: lyon, name: Lyon, country: FR, latitude: 45.75, longitude: 4.85, time_zone: Europe/Paris}"


@pytest.fixture(autouse=True)
def home(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, none of the settings, and no proxy on the way."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return clean_environment


@contextmanager
def account(known: Account | None = None) -> Iterator[Provider]:
    """A simulator that knows one account, or none."""
    faults = Faults()
    with serving(create_app({KEY: known} if known else {}, faults=faults)) as port:
        yield Provider(f"http://127.0.0.1:{port}", faults)


def use(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str], **more: str) -> None:
    for name, value in {"WEATHER_HISTORY_PROVIDER": "none", **settings, **more}.items():
        monkeypatch.setenv(name, value)


def findings() -> list[Finding]:
    found = list(examine())
    assert KEY not in repr(found)
    return found


def told(found: list[Finding], check: str) -> Finding:
    (finding,) = (each for each in found if each.check == check)
    return finding


def only_cause(found: list[Finding]) -> Finding:
    """The one finding that names a cause, which is a failure."""
    (finding,) = (each for each in found if each.cause)
    assert finding.verdict is Verdict.FAIL
    return finding


def test_an_installation_in_order_has_nothing_but_good_findings_and_costs_a_call_for_each_product(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, provider.live, WEATHER_HISTORY_PROVIDER="open_meteo", WEATHER_ALERT_URLS=HOOK)
    found = findings()
    assert {each.verdict for each in found} == {Verdict.OK}, found
    checks = {each.check for each in found}
    assert {"settings", "places", "home", "warehouse", "dagster home", "alerts", "clock"} <= checks
    assert {f"openweather {CURRENT}", f"openweather {HISTORY}", "open_meteo api/v1/forecast"} <= checks
    assert provider.faults.requests == {CURRENT: {200: 1}, HISTORY: {200: 1}, "/api/v1/forecast": {200: 1}}


def test_the_simulator_needs_no_key_and_no_network() -> None:
    found = findings()
    assert {each.verdict for each in found if each.check != "alerts"} == {Verdict.OK}, found
    assert "no key" in told(found, "simulator").message


def test_nobody_who_is_told_of_problems_is_a_warning() -> None:
    finding = told(findings(), "alerts")
    assert finding.verdict is Verdict.WARN
    assert "nobody is told" in finding.message
    assert "weather alerts test" in finding.way_out


def test_alert_urls_are_told_by_position_and_scheme_and_a_wrong_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {}, WEATHER_ALERT_URLS="json://host/secret-hook error=mailto://me:secret-word@host.org")
    assert told(findings(), "alerts").message == "told to target 1 (json), target 2 (mailto)"
    use(monkeypatch, {}, WEATHER_ALERT_URLS="json://host/hook nonsense-with-secret")
    finding = told(findings(), "alerts")
    assert finding.verdict is Verdict.FAIL
    assert "entry 2 is no URL" in finding.message
    assert "secret" not in finding.message


def test_a_daemon_that_went_silent_is_a_warning_and_one_that_lives_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_dagster_home(Settings.load())
    assert told(findings(), "daemon").verdict is Verdict.WARN
    with DagsterInstance.from_config(str(Settings.load().dagster_home_path)) as instance:
        beat(instance, utc_now())
        assert told(findings(), "daemon").verdict is Verdict.OK
        beat(instance, utc_now() - timedelta(minutes=10))
    finding = told(findings(), "daemon")
    assert finding.verdict is Verdict.WARN
    assert "weather dev" in finding.way_out


def test_a_recording_has_neither_daemon_nor_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"WEATHER_PROVIDER": "recorded"})
    prepare_dagster_home(Settings.load())
    assert not {"daemon", "alerts"} & {each.check for each in findings()}


@pytest.mark.parametrize("key", ["", "  "])
def test_no_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"WEATHER_PROVIDER": "openweather", "OPENWEATHER_API_KEY": key})
    finding = only_cause(findings())
    assert finding.cause is Cause.NO_KEY
    assert "set OPENWEATHER_API_KEY" in finding.message


@contextmanager
def counting_proxy() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that lets nothing through; yields its address and what was sent to it."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heads.append(connection.recv(65536))
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("key", ["secret-of-mine", f"'{KEY}'", KEY[:-1], KEY.replace("a", "g")])
def test_a_malformed_key_is_told_without_any_call(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"WEATHER_PROVIDER": "openweather", "OPENWEATHER_API_KEY": key})
    with counting_proxy() as (url, heads):
        monkeypatch.setenv("HTTPS_PROXY", url)
        found = findings()
        assert heads == []
        assert only_cause(found).cause is Cause.MALFORMED_KEY
        assert key not in repr(found)
        monkeypatch.setenv("OPENWEATHER_API_KEY", KEY)
        assert only_cause(findings()).cause is Cause.NETWORK
        assert [head.split()[:2] for head in heads] == [[b"CONNECT", b"api.openweathermap.org:443"]]


def test_a_malformed_key_is_told_behind_another_host_that_is_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with counting_proxy() as (url, heads):
        use(
            monkeypatch,
            {"WEATHER_PROVIDER": "openweather", "OPENWEATHER_API_KEY": "k" * 32, "OPENWEATHER_BASE_URL": url},
        )
        assert only_cause(findings()).cause is Cause.MALFORMED_KEY
    assert len(heads) == 1


def test_a_stand_in_takes_a_key_of_any_shape(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, provider.live, OPENWEATHER_API_KEY="anything", WEATHER_ALERT_URLS=HOOK)
    assert {each.verdict for each in findings()} == {Verdict.OK}


def test_a_key_that_is_not_active_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    with account(Account(active_from=time.time() + 3600)) as provider:
        use(monkeypatch, provider.live)
        found = findings()
    finding = only_cause(found)
    assert finding.cause is Cause.KEY_NOT_ACTIVE
    assert "never accepted" in finding.message
    assert "2 hours" in finding.way_out
    assert told(found, "openweather still serves").message == "nothing"
    assert provider.faults.requests == {CURRENT: {401: 1}}


def test_a_key_that_worked_before_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    with account(account_of_plan("professional")) as provider:
        use(monkeypatch, provider.live)
        assert not [each for each in findings() if each.cause]
    with account() as provider:
        use(monkeypatch, provider.live)
        finding = only_cause(findings())
    assert finding.cause is Cause.KEY_WITHDRAWN
    assert "was accepted until 20" in finding.message
    assert provider.faults.requests == {CURRENT: {401: 1}}


def test_an_error_inside_a_good_status_is_not_taken_for_a_key_that_worked(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, provider.live)
    provider.faults.replace([Fault(kind="error_in_200", status=401)])
    for _ in range(2):
        assert only_cause(findings()).cause is Cause.KEY_NOT_ACTIVE


@pytest.mark.parametrize(
    ("plan", "works", "refused", "way_out"),
    [
        ("professional", CURRENT, HISTORY, "OPENWEATHER_PLAN"),
        ("one_call_3", AIR, "/data/3.0/onecall", "OPENWEATHER_PLAN=one_call_4"),
        ("one_call_4", AIR, "/data/4.0/onecall/current", "OPENWEATHER_PLAN=free"),
    ],
)
def test_a_key_without_the_product_of_its_plan_and_what_still_works(
    plan: str, works: str, refused: str, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with account(account_of_plan("free")) as provider:
        use(monkeypatch, provider.live, OPENWEATHER_PLAN=plan)
        found = findings()
    finding = only_cause(found)
    assert (finding.cause, finding.check) == (Cause.PRODUCT_MISSING, f"openweather {refused}")
    assert way_out in finding.way_out
    still = told(found, "openweather still serves")
    assert still.verdict is Verdict.OK
    assert f"({works})" in still.message
    assert refused not in still.message
    assert provider.faults.requests == {works: {200: 1}, refused: {401: 1}}


def test_a_blocked_account_is_asked_once_and_then_not_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with account(Account(blocked_until=time.time() + 86_400)) as provider:
        use(monkeypatch, provider.live)
        finding = only_cause(findings())
        assert finding.cause is Cause.ACCOUNT_BLOCKED
        assert "temporary blocked" in finding.message
        assert "Wait" in finding.way_out
        again = only_cause(findings())
    assert again.cause is Cause.ACCOUNT_BLOCKED
    assert "not asked before 20" in again.message
    assert "temporary blocked" in again.message
    assert provider.faults.requests == {CURRENT: {429: 1}}


def test_even_a_short_block_is_told_without_a_call(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, provider.live)
    provider.faults.replace([Fault(kind="status", status=503, retry_after="2", count=1)])
    assert only_cause(findings()).cause is Cause.OTHER
    assert "not asked before" in only_cause(findings()).message
    assert provider.faults.requests == {CURRENT: {503: 1}}
    time.sleep(2)  # The provider's own pause, on the real clock.
    assert not [each for each in findings() if each.cause]


@pytest.mark.parametrize("status", [403, 429])
def test_an_address_that_is_blocked_is_no_matter_of_a_key(
    status: int, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, provider.live, WEATHER_PROVIDER="open_meteo")
    provider.faults.replace([Fault(kind="status", status=status)])
    finding = only_cause(findings())
    assert finding.cause is Cause.ACCOUNT_BLOCKED
    assert "key" not in finding.message
    assert "address" in finding.way_out


def test_a_certificate_that_is_not_trusted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = home / "key.pem", home / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    make = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-keyout", key, "-out", certificate, *subject]
    subprocess.run(make, check=True, capture_output=True)
    faults = Faults()
    with serving(create_app(faults=faults), ssl_keyfile=key, ssl_certfile=certificate) as port:
        use(monkeypatch, Provider(f"https://127.0.0.1:{port}", faults).live)
        finding = only_cause(findings())
    assert finding.cause is Cause.TLS
    assert "certificate" in finding.message
    assert "SSL_CERT_FILE" in finding.way_out
    assert faults.requests == {}


def test_nobody_listening_is_a_network_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    use(monkeypatch, Provider(url, Faults()).live)
    finding = only_cause(findings())
    assert finding.cause is Cause.NETWORK
    assert url in finding.message
    assert "firewall" in finding.way_out


def test_a_name_that_does_not_resolve_is_a_network_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Provider("http://weather.invalid", Faults()).live)
    finding = only_cause(findings())
    assert finding.cause is Cause.NETWORK
    assert "weather.invalid" in finding.message
    assert "name server" in finding.way_out


def test_a_proxy_that_does_not_answer_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Provider("http://weather.invalid", Faults()).live)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    finding = only_cause(findings())
    assert finding.cause is Cause.NETWORK
    assert "the proxy in HTTP_PROXY, " in finding.way_out


@pytest.mark.parametrize(("seconds", "where"), [(3600, "behind"), (-7200, "ahead of")])
def test_a_clock_that_is_off(seconds: float, where: str, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, provider.live)
    provider.faults.replace([Fault(kind="date_skew", seconds=seconds)])
    found = findings()
    finding = told(found, "clock")
    assert finding.verdict is Verdict.FAIL
    assert f" s {where} openweather's" in finding.message
    assert "NTP" in finding.way_out
    assert told(found, f"openweather {HISTORY}").verdict is Verdict.OK


@pytest.mark.parametrize("kind", ["html", "empty", "truncated", "huge", "wrong_shape", "status"])
def test_what_is_no_weather_is_an_unexpected_answer(
    kind: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, provider.live)
    provider.faults.replace([Fault.model_validate({"kind": kind, "status": 502})])
    finding = only_cause(findings())
    assert finding.cause is Cause.OTHER
    assert finding.way_out == "try again later"
    assert ("answered 502" in finding.message) == (kind == "status")


def test_a_warehouse_that_another_process_holds_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Settings.load().duckdb_path
    with open_warehouse(path):
        pass
    code = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        finding = told(findings(), "warehouse")
        holder.communicate()
    assert finding.verdict is Verdict.WARN
    assert f"PID {holder.pid}" in finding.message
    assert told(findings(), "warehouse").verdict is Verdict.OK


def test_what_a_cluster_lacks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_ENV", "cluster")
    found = {finding.check: finding for finding in findings()}
    assert found["warehouse"].verdict is Verdict.FAIL
    assert "WEATHER_POSTGRES_URL is not set" in found["warehouse"].message


def test_the_daemon_of_a_cluster_is_looked_for_in_its_records(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEATHER_ENV", "cluster")
    monkeypatch.setenv("WEATHER_POSTGRES_URL", postgres_url)
    found = {finding.check: finding for finding in findings()}
    assert found["warehouse"].verdict is Verdict.OK
    assert (found["daemon"].verdict, found["daemon"].way_out) == (Verdict.WARN, "`weather dev` starts it")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert told(findings(), "daemon").way_out == "`kubectl logs deployment/weather-dagster-daemon` says why"
    monkeypatch.setenv("WEATHER_DAGSTER_STORAGE_URL", with_parts(postgres_url, dbname="nowhere"))
    found = {finding.check: finding for finding in findings()}
    assert found["daemon"].verdict is Verdict.FAIL
    assert "WEATHER_DAGSTER_STORAGE_URL names it" in found["daemon"].message


def test_a_damaged_warehouse() -> None:
    path = Settings.load().duckdb_path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 1000)
    finding = told(findings(), "warehouse")
    assert finding.verdict is Verdict.FAIL
    assert str(path) in finding.message
    assert "aside" in finding.message


@pytest.mark.parametrize("file", ["dagster/history/runs.db", "ledger.sqlite"])
def test_a_damaged_store_beside_the_warehouse(file: str) -> None:
    path = Settings.load().home / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 1000)
    (finding,) = (each for each in findings() if each.verdict is Verdict.FAIL)
    assert str(path) in finding.message
    assert "move it aside" in finding.message + finding.way_out


def test_a_home_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    use(monkeypatch, {"WEATHER_HOME": str(home / "file")})
    found = findings()
    finding = told(found, "home")
    assert finding.verdict is Verdict.FAIL
    assert str(home / "file") in finding.message
    assert "WEATHER_HOME" in finding.way_out
    assert told(found, "simulator ledger").verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("settings", "check", "part"),
    [
        ({"WEATHER_PROVIDER": "weather_bug"}, "settings", "weather_bug"),
        ({"OPENWEATHER_ONE_CALL_PER_DAY": "many"}, "settings", "OPENWEATHER_ONE_CALL_PER_DAY"),
        ({"WEATHER_LOCATIONS": "nowhere.yaml"}, "places", "nowhere.yaml"),
        ({"OPENWEATHER_API_KEY": KEY, "OPENWEATHER_PLAN": "gold"}, "provider", "'gold'"),
        ({"OPENWEATHER_API_KEY": KEY, "OPENWEATHER_BASE_URL": "http://[::1"}, "provider", "OPENWEATHER_BASE_URL"),
        ({"OPENWEATHER_API_KEY": KEY, "OPENWEATHER_BASE_URL": "http://h:99999"}, "provider", "OPENWEATHER_BASE_URL"),
    ],
)
def test_a_wrong_setting_is_named(
    settings: dict[str, str], check: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, settings)
    finding = told(findings(), check)
    assert (finding.verdict, finding.cause) == (Verdict.FAIL, None)
    assert part in finding.message


def test_a_zone_that_is_not_the_places(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "places.yaml").write_text(f"locations:\n- {PLACE.replace('Europe/Paris', 'Asia/Tokyo')}\n")
    use(monkeypatch, {"WEATHER_LOCATIONS": "places.yaml"}, WEATHER_ALERT_URLS=HOOK)
    (finding,) = (each for each in findings() if each.verdict is not Verdict.OK)
    assert (finding.check, finding.verdict) == ("places", Verdict.WARN)
    assert "Asia/Tokyo" in finding.message
    assert "Europe/Paris" in finding.message + finding.way_out


def test_the_command_ends_well_when_nothing_fails_and_its_json_can_be_read(weather: Weather) -> None:
    run = weather("doctor", "--json", WEATHER_ALERT_URLS=HOOK)
    assert run.returncode == 0, run.stderr
    assert {each["verdict"] for each in json.loads(run.stdout)} == {"ok"}


def test_the_command_ends_with_1_after_a_failure_and_hides_the_key(weather: Weather) -> None:
    with account() as provider:
        run, as_json = weather("doctor", **provider.live), weather("doctor", "--json", **provider.live)
    assert run.returncode == as_json.returncode == 1
    assert "key not active yet: the key" in run.stdout
    assert "key not active yet" in {each["cause"] for each in json.loads(as_json.stdout)}
    assert KEY not in run.stdout + run.stderr + as_json.stdout + as_json.stderr
