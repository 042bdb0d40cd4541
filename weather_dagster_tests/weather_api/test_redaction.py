"""Secrets are hidden in every form in which they may come back, and nothing else is touched."""

import time
from urllib.parse import quote, quote_plus

import pytest
from pydantic import SecretStr

from weather_dagster.weather_api.redaction import HIDDEN, Secrets

KEY = "5e1ec7ed+k/y Ü"
SECRETS = Secrets({"appid": SecretStr(KEY)})


def every_letter_encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


FORMS = {
    "plain": KEY,
    "capitals": KEY.encode().upper().decode(),
    "mixed case": KEY.encode().title().decode(),
    "quoted": quote(KEY),
    "quoted whole": quote(KEY, safe=""),
    "quoted in small letters": quote(KEY, safe="").lower(),
    "with plus signs": quote_plus(KEY),
    "quoted twice": quote(quote(KEY, safe="")),
    "every letter quoted": every_letter_encoded(KEY),
    "every letter quoted, in capitals": every_letter_encoded(KEY.upper()),
    "one letter quoted": every_letter_encoded(KEY[0]) + KEY[1:],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("text", ["key {} is blocked", '{{"link": "/?k={}"}}', "{}"])
def test_a_secret_is_hidden_in_each_form(form: str, text: str) -> None:
    assert SECRETS.hide(text.format(form)) == text.format(HIDDEN)
    assert SECRETS.hide_in_body(text.format(form).encode()) == text.format(HIDDEN).encode()


@pytest.mark.parametrize("name", ["appid", "APPID", "AppId"])
def test_a_part_of_a_secret_is_hidden_behind_the_name_of_its_parameter(name: str) -> None:
    assert SECRETS.hide(f"{name}=5e1e&lat=1") == f"{name}={HIDDEN}&lat=1"


@pytest.mark.parametrize(
    "body", [b"", b"humidity 50 %", "Zürich".encode(), b"\xff\xfe\x00", b"%35%41 is no key", b"5e1ec7ed"]
)
def test_what_is_no_secret_is_left_as_it_is(body: bytes) -> None:
    assert SECRETS.hide_in_body(body) == body
    assert Secrets({}).hide_in_body(body) == body


def test_a_large_body_without_a_secret_costs_little() -> None:
    key = "0123456789abcdef" * 2
    secrets = Secrets({"appid": SecretStr(key)})
    body = b'{"dt":1764072000,"main":{"temp":7.5,"humidity":70},"unit":"%"},' * 150_000

    def seconds(body: bytes) -> float:
        began = time.process_time()
        secrets.hide_in_body(body)
        return time.process_time() - began

    fastest = min(seconds(body) for _ in range(3))
    assert fastest * 3 < min(seconds(body + key.encode()) for _ in range(3)), "the pattern is for bodies that need it"
