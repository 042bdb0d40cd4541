"""Superset's settings, read as Superset reads them; Superset itself is not installed here."""

import runpy
from typing import Any

import pytest

from weather_dagster_tests.deployment.project import ROOT

KEY = "k" * 56
ENVIRONMENT = {
    "SUPERSET_SECRET_KEY": KEY,
    "SUPERSET__SQLALCHEMY_DATABASE_URI": "postgresql://superset:secret@db/superset",
}


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, Any]:
    """What the file gives to Superset in an environment."""
    for name in ("SUPERSET_SECRET_KEY", "SUPERSET__SQLALCHEMY_DATABASE_URI", "SUPERSET_PROXIES", "SUPERSET_PLAIN_HTTP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = runpy.run_path(str(ROOT / "weather_superset/superset_config.py"))
    return {name: value for name, value in given.items() if name.isupper()}


def test_it_is_closed_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(monkeypatch, **ENVIRONMENT)
    assert (given["SECRET_KEY"], given["SQLALCHEMY_DATABASE_URI"]) == tuple(ENVIRONMENT.values())
    assert given["SESSION_COOKIE_SECURE"]
    assert given["TALISMAN_CONFIG"]["session_cookie_secure"]
    assert not given["ENABLE_PROXY_FIX"]
    assert given["RATELIMIT_ENABLED"]


def test_pages_fetch_from_nowhere_else_and_run_no_script_of_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    told = settings(monkeypatch, **ENVIRONMENT)["TALISMAN_CONFIG"]
    policy = told["content_security_policy"]
    sources = {source for allowed in policy.values() for source in ([allowed] if isinstance(allowed, str) else allowed)}
    assert sources == {"'self'", "'none'", "blob:", "data:", "'unsafe-inline'", "'strict-dynamic'"}
    assert [name for name, allowed in policy.items() if "'unsafe-inline'" in allowed] == ["style-src"]
    assert told["content_security_policy_nonce_in"] == ["script-src"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET",
        "YOUR_OWN_RANDOM_GENERATED_SECRET_KEY",
        "thisISaSECRET_1234",
        "TEST_NON_DEV_SECRET",
        r"\2\1thisismyscretkey\1\2\e\y\y\h",
    ],
)
def test_a_key_that_everybody_knows_is_refused_without_being_told(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"SUPERSET_SECRET_KEY .*`openssl rand -base64 42`") as refused:
        settings(monkeypatch, **{**ENVIRONMENT, "SUPERSET_SECRET_KEY": key})
    assert not key or key not in str(refused.value)


def test_its_database_is_named_and_never_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="SUPERSET__SQLALCHEMY_DATABASE_URI is missing: give postgresql://"):
        settings(monkeypatch, SUPERSET_SECRET_KEY=KEY)


def test_as_many_proxies_are_believed_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(monkeypatch, **ENVIRONMENT, SUPERSET_PROXIES="2")
    assert given["ENABLE_PROXY_FIX"]
    assert given["PROXY_FIX_CONFIG"] == {"x_for": 2, "x_proto": 2, "x_host": 2, "x_port": 2, "x_prefix": 2}


def test_plain_http_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(monkeypatch, **ENVIRONMENT, SUPERSET_PLAIN_HTTP="true")
    assert not given["SESSION_COOKIE_SECURE"]
    assert not given["TALISMAN_CONFIG"]["session_cookie_secure"]


@pytest.mark.parametrize(("name", "value"), [("SUPERSET_PROXIES", "all"), ("SUPERSET_PLAIN_HTTP", "yes")])
def test_what_it_does_not_understand_it_says(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"{name} is '{value}': it is"):
        settings(monkeypatch, **{**ENVIRONMENT, name: value})
