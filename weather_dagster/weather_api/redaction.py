"""Keeps secret values out of every text.

Belongs here: the forms in which a secret may stand in what a provider or a library says. Does not belong here: which
texts are hidden (``client``).
"""

import re
from collections.abc import Mapping

from pydantic import SecretStr

HIDDEN = "***"


class Secrets:
    """Hides secret values in any case and percent-encoding, and whatever stands where a secret would.

    Args:
        credentials: secrets by the query parameter in which they travel.
    """

    def __init__(self, credentials: Mapping[str, SecretStr]) -> None:
        values = sorted({secret.get_secret_value() for secret in credentials.values()} - {""}, key=len, reverse=True)
        parameters = [f"{name}=" for name in credentials]
        # A URL may be quoted in part: then only the name of the parameter gives the secret away.
        beside = [f"(?<={re.escape(parameter)})[^&\\s\"'<>\\\\]+" for parameter in parameters]
        spelled = ["".join(map(_spellings, value)) for value in values]
        self._pattern = re.compile("|".join([*beside, *spelled]).encode(), re.IGNORECASE)
        self._marks = [mark.encode().lower() for mark in (*values, *parameters)]
        encoded = {form for value in values for character in value for form in _encoded(character)}
        endings = "|".join(sorted(form.removeprefix("%") for form in encoded))
        self._mark_of_encoding = re.compile(f"%(?:25)*(?:{endings})".encode())

    def hide(self, text: str) -> str:
        """The text with each secret replaced by ``HIDDEN``."""
        return self.hide_in_body(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def hide_in_body(self, body: bytes) -> bytes:
        """The body with each secret replaced by ``HIDDEN``."""
        if not self._marks:
            return body
        # The search for the marks is many times faster than the pattern, and nearly always all there is to do.
        lowered = body.lower()
        if any(mark in lowered for mark in self._marks) or self._mark_of_encoding.search(lowered):
            return self._pattern.sub(HIDDEN.encode(), body)
        return body


def _encoded(character: str) -> set[str]:
    """The character percent-encoded, in small letters, as either of its cases."""
    return {"".join(f"%{byte:02x}" for byte in case.encode()) for case in (character.lower(), character.upper())}


def _spellings(character: str) -> str:
    """Pattern of a character as it stands or percent-encoded, once or more often; a space may be a plus sign."""
    plain = {re.escape(character)} | ({r"\+"} if character == " " else set())
    encoded = {form.replace("%", "%(?:25)*") for form in _encoded(character)}
    return f"(?:{'|'.join(sorted(plain | encoded))})"
