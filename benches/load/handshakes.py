"""Makes one TLS connection after the other, each with a full handshake and one request, and says what came of it.

`handshakes.py URL CA SECONDS`. wrk keeps the session of a connection when it opens the next one, and `openssl s_time`
does not look at what it gets. One connection at a time is enough: what counts is what each costs the server.
"""

import json
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit


def main(url: str, ca: str, seconds: float) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    tls = ssl.create_default_context(cafile=ca)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    request = (
        f"GET {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nx-api-key: k123\r\nconnection: close\r\n\r\n"
    ).encode()
    times: list[float] = []
    errors = 0
    started = time.monotonic()
    while (begin := time.monotonic()) < started + seconds:
        try:
            with (
                socket.create_connection((parts.hostname, parts.port), 10) as plain,
                tls.wrap_socket(plain, server_hostname="bench.test") as connection,
            ):
                connection.sendall(request)
                answer = b""
                while piece := connection.recv(65536):
                    answer += piece
                errors += not answer.startswith(b"HTTP/1.1 200 ") or connection.session_reused is True
        except OSError:
            errors += 1
        times.append((time.monotonic() - begin) * 1e6)
    elapsed = time.monotonic() - started
    times.sort()
    report = {
        "requests": len(times),
        "rps": len(times) / elapsed,
        "p50_us": times[len(times) // 2],
        "p99_us": times[len(times) * 99 // 100],
        "errors": errors,
    }
    print(json.dumps(report))


main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
