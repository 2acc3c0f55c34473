"""An origin that the tests of one file share: they count its requests and need nothing else of it."""

import threading
from collections.abc import Iterator

import pytest
from support.in_process import EchoOrigin


@pytest.fixture(scope="module")
def origin() -> Iterator[EchoOrigin]:
    with EchoOrigin() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
