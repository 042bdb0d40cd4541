"""Connections to Databricks SQL: whose they are, how long a warehouse may take to wake, and what its errors mean."""

import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import databricks.sql
from databricks.sdk.config import Config
from databricks.sdk.credentials_provider import oauth_service_principal
from databricks.sql.client import Connection
from pydantic import SecretStr
from urllib3.exceptions import HTTPError

from weather_dagster.errors import ConfigurationError, WarehouseError

WAKE_UP = timedelta(minutes=5)
"""How long a warehouse that was stopped is waited for."""
STATEMENT_TIMEOUT = timedelta(minutes=2)
"""Databricks ends a statement that takes longer."""
_REACH_SECONDS = 10
_RETRY_SECONDS = 5
"""The connector waits so long between two tries, whatever the server says."""

# The one logs errors that are raised as well, the other whole requests.
for _name in ("databricks.sql", "databricks.sql.unsafe"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Account:
    """A SQL warehouse, and who asks: with a token, or as a service principal (OAuth, machine to machine)."""

    host: str | None
    http_path: str | None
    catalog: str
    token: SecretStr | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None

    def __str__(self) -> str:
        return f"{self.catalog} at {self.host or 'Databricks'}"

    @property
    def url(self) -> str:
        """Address of the workspace; people give it with the scheme or without."""
        host = (self.host or "").rstrip("/")
        return host if "://" in host else f"https://{host}"

    @property
    def path(self) -> str:
        """Path of the SQL warehouse."""
        return f"/{(self.http_path or '').lstrip('/')}"

    def require(self) -> None:
        """Refuse an account that lacks a part.

        Raises:
            ConfigurationError: naming the settings.
        """
        required = {"DATABRICKS_HOST": self.host, "DATABRICKS_HTTP_PATH": self.http_path}
        missing = [name for name, value in required.items() if not value]
        if not self.token and not (self.client_id and self.client_secret):
            missing.append("DATABRICKS_TOKEN (or DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET)")
        if missing:
            raise ConfigurationError(
                f"not set: {', '.join(missing)}; host and path are told by the connection details of the SQL warehouse"
            )

    @property
    def credentials(self) -> dict[str, Any]:
        """What the connector takes for them."""
        if self.token:
            return {"access_token": self.token.get_secret_value()}
        if not (self.client_id and self.client_secret):
            raise ConfigurationError("a service principal has an id and a secret")
        config = Config(
            host=self.url,
            client_id=self.client_id,
            client_secret=self.client_secret.get_secret_value(),
            auth_type="oauth-m2m",
        )
        provider: Callable[[], Any] = lambda: oauth_service_principal(config)  # noqa: E731 - the connector's form
        return {"credentials_provider": provider}


def connect(account: Account) -> Connection:
    """A session in the account's catalog, in UTC. A warehouse that was stopped starts, and is waited for.

    Raises:
        ConfigurationError: a part of the account is not set.
        WarehouseError: naming workspace, catalog and the way out.
    """
    account.require()
    _require_reachable(account)
    with errors_explained(account):
        return databricks.sql.connect(
            server_hostname=urlsplit(account.url).hostname,
            http_path=account.path,
            _connection_uri=account.url + account.path,
            catalog=account.catalog,
            session_configuration={
                "TIMEZONE": "UTC",
                "STATEMENT_TIMEOUT": str(int(STATEMENT_TIMEOUT.total_seconds())),
            },
            _retry_delay_max=_RETRY_SECONDS,
            _retry_stop_after_attempts_count=60,
            _retry_stop_after_attempts_duration=WAKE_UP.total_seconds(),
            _socket_timeout=STATEMENT_TIMEOUT.total_seconds() + 60,
            enable_telemetry=False,
            **account.credentials,
        )


def _require_reachable(account: Account) -> None:
    """Tell at once of a name that does not exist; the connector would ask for minutes."""
    address = urlsplit(account.url)
    if address.scheme in getproxies():
        return
    try:
        socket.create_connection(
            (address.hostname, address.port or (443 if address.scheme == "https" else 80)), _REACH_SECONDS
        ).close()
    except (OSError, ValueError) as error:
        raise WarehouseError(
            f"cannot reach {account.url}: {error}; is DATABRICKS_HOST right, and is there a network?"
        ) from None


@contextmanager
def errors_explained(account: Account) -> Iterator[None]:
    """Errors of the connector as ours.

    Raises:
        WarehouseError: naming workspace, catalog and the way out, never the token.
    """
    try:
        yield
    except (databricks.sql.Error, HTTPError, OSError, ValueError, AssertionError) as error:
        # Not chained: of a request the library can repeat more than it should.
        raise WarehouseError(_explain(account, error)) from None


def is_conflict(error: BaseException) -> bool:
    """Whether another writer of the same table was first: nothing was written, and it can be tried again."""
    return "DELTA_CONCURRENT" in str(error) or "ConcurrentAppendException" in str(error)


def _explain(account: Account, error: Exception) -> str:
    text = " ".join(str(error).split())
    status = str(getattr(error, "context", {}).get("http-code"))
    if status in ("401", "403") or "invalid_client" in text or "invalid access token" in text.lower():
        secret = "DATABRICKS_TOKEN" if account.token else "DATABRICKS_CLIENT_ID or DATABRICKS_CLIENT_SECRET"
        told = f"{account.url} does not accept {secret}: it has expired, was revoked, or is of another workspace"
    elif "NO_SUCH_CATALOG" in text or ("CATALOG" in text and "NOT_FOUND" in text):
        told = f"there is no catalog {account.catalog!r} at {account.url}; make it, or correct DATABRICKS_CATALOG"
    elif "PERMISSION" in text or "INSUFFICIENT" in text:
        told = f"Databricks allows this not: {_first_sentence(text)}; grant it to the token's owner on the catalog"
    elif "TABLE_OR_VIEW_NOT_FOUND" in text or "SCHEMA_NOT_FOUND" in text:
        told = f"{_first_sentence(text)}; `weather backfill` makes bronze and lets dbt make the rest"
    elif status == "404":
        told = f"{account.url} has no SQL warehouse at {account.http_path}; correct DATABRICKS_HTTP_PATH"
    elif isinstance(error, HTTPError | OSError) or status == "503":
        told = (
            f"{account.url} did not answer for {WAKE_UP.total_seconds() / 60:.0f} minutes ({_first_sentence(text)}); "
            "what was landed is whole: run this again when the SQL warehouse is up"
        )
    else:
        told = _first_sentence(text)
    return f"the warehouse {account}: {told}"


def _first_sentence(text: str) -> str:
    """An error without the plan and the trace that may follow."""
    return re.split(r"; line \d|== SQL|JVM stacktrace", text)[0][:500].strip(" .:")
