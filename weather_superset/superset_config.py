"""Superset's settings where they differ from its own; what differs between places comes from the environment.

SUPERSET_SECRET_KEY                 signs sessions and encrypts stored passwords; required
SUPERSET__SQLALCHEMY_DATABASE_URI   Superset's own database; required, and read by Superset itself
SUPERSET_PROXIES                    how many reverse proxies stand in front, whose X-Forwarded headers are believed; 0
SUPERSET_PLAIN_HTTP                 `true` lets a browser sign in without TLS; only for a trial on one's own machine

Superset brings no user and no password: `superset fab create-admin` makes the first one, and asks for what it needs.
Names in capitals become settings of Superset, so that helpers have none.
"""

import os


def required(name: str, way_out: str) -> str:
    """A variable that has to be there."""
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"{name} is missing: {way_out}")
    return value


def secret_key() -> str:
    """The key, unless it could be guessed: the keys of Superset's documents and images are all shorter than 40."""
    way_out = "make one with `openssl rand -base64 42`, keep it secret, and keep it: it decrypts what is stored"
    key = required("SUPERSET_SECRET_KEY", way_out)
    if len(key) < 40:
        raise ValueError(f"SUPERSET_SECRET_KEY has fewer than 40 characters: {way_out}")
    return key


def plain_http() -> bool:
    """Whether cookies may go without TLS."""
    value = os.environ.get("SUPERSET_PLAIN_HTTP", "false")
    if value not in {"true", "false"}:
        raise ValueError(f"SUPERSET_PLAIN_HTTP is {value!r}: it is true or false")
    return value == "true"


def proxies() -> int:
    """How many proxies are believed."""
    value = os.environ.get("SUPERSET_PROXIES", "0")
    if not value.isdecimal():
        raise ValueError(f"SUPERSET_PROXIES is {value!r}: it is the number of reverse proxies in front, 0 without any")
    return int(value)


SECRET_KEY = secret_key()
SQLALCHEMY_DATABASE_URI = required(
    "SUPERSET__SQLALCHEMY_DATABASE_URI",
    "give postgresql://user:password@host/database, or for a trial sqlite:////folder/superset.db?timeout=30",
)

# Without one in front anybody could write these headers.
ENABLE_PROXY_FIX = proxies() > 0
PROXY_FIX_CONFIG = dict.fromkeys(("x_for", "x_proto", "x_host", "x_port", "x_prefix"), proxies())

SESSION_COOKIE_SECURE = not plain_http()
TALISMAN_CONFIG = {
    # Nothing is fetched from elsewhere, and nothing told: Superset's pages ask for a picture that counts their viewers.
    "content_security_policy": {
        "default-src": ["'self'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "object-src": "'none'",
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "script-src": ["'self'", "'strict-dynamic'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    # TLS ends at the proxy; the probes come without.
    "force_https": False,
    "session_cookie_secure": SESSION_COOKIE_SECURE,
}

# Superset lets the sites of map tiles read its answers; nobody else's page has to.
ENABLE_CORS = False

# Passwords are not to be guessed, and Superset's own limit reaches neither its page nor its API.
RATELIMIT_ENABLED = True
RATELIMIT_STORAGE_URI = "memory://"
RATELIMIT_APPLICATION = "10 per minute"


def RATELIMIT_APPLICATION_EXEMPT_WHEN() -> bool:  # noqa: N802
    """Count attempts to sign in alone, of one address: a dashboard asks for all its charts at once."""
    from flask import request

    return request.method != "POST" or not request.path.rstrip("/").endswith("/login")
