"""An origin that closes each connection after 20 responses without saying so: what a pool of connections meets
when a service restarts, a load balancer in between drops idle connections, or a keep-alive limit is silent.

`stale_origin.py PORT`
"""

import asyncio
import sys

import uvloop

RESPONSES_PER_CONNECTION = 20
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + b"x" * 100


class Origin(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.answered = 0
        self.received = b""

    def data_received(self, data: bytes) -> None:
        *heads, self.received = (self.received + data).split(b"\r\n\r\n")
        for _ in heads:
            self.transport.write(RESPONSE)
            self.answered += 1
            if self.answered == RESPONSES_PER_CONNECTION:
                self.transport.close()
                return


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1])))
