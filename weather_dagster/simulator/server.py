"""The provider apps as a server process, for clients that are not in this one."""

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from weather_dagster.errors import ConfigurationError


def serve(app: ASGIApp, host: str, port: int, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve ``app`` until interrupted; SIGINT ends it cleanly and then arrives as ``KeyboardInterrupt``.

    Args:
        port: 0 takes a free one.
        on_ready: called with the base URL as soon as connections are accepted.

    Raises:
        ConfigurationError: host and port cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another port"
        ) from None
    with listener:
        if on_ready is not None:
            shown = f"[{host}]" if ":" in host else host
            on_ready(f"http://{shown}:{listener.getsockname()[1]}")
        # No access log: it would hold the query strings, and with them the key.
        # The apps write Server and Date themselves. Slow answers that were asked for must not hold up the end.
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=[listener])
