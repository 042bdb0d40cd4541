"""One Call's past hours over a real socket: PORT SECONDS. Every answer is canned and leaves so long after its request.

Less than the simulator on purpose: it shares the cores with what is measured, and must not be what is measured.
"""

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

BODY = (
    '{{"lat":{lat},"lon":{lon},"timezone":"UTC","timezone_offset":0,"data":[{{"dt":{dt},"temp":7.5,"feels_like":6.5,'
    '"pressure":1012,"humidity":70,"dew_point":2.4,"uvi":0.4,"clouds":40,"visibility":10000,"wind_speed":3,'
    '"wind_deg":220,"weather":[{{"id":802,"main":"Clouds","description":"scattered clouds","icon":"03d"}}]}}]}}'
)


class Connection(asyncio.Protocol):
    """Answers one request after the other; a client that waits for an answer sends no second one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._received = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            target = self._received.split(b" ", 2)[1].decode()
            self._received = b""
            self._loop.call_later(self._seconds, self._answer, target)

    def _answer(self, target: str) -> None:
        query = parse_qs(urlsplit(target).query)
        body = BODY.format(**{name: query[name][0] for name in ("lat", "lon", "dt")}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def main() -> None:
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    server = await asyncio.get_running_loop().create_server(lambda: Connection(seconds), "127.0.0.1", port)
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main())
