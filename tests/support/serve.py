"""A gateway process for tests: the configuration as one line of JSON on stdin, its URLs as one on stdout.

A further line is another configuration to be reloaded, answered by the generation's number. It stops on SIGTERM, and
also when stdin ends, so that it never outlives the tests.
"""

import json
import signal
import sys

from nylon import Gateway
from nylon.terminal import configure_logging


def main() -> None:
    configure_logging()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = json.loads(sys.stdin.readline())
    with Gateway(config) as gateway:
        print(json.dumps(gateway.urls), flush=True)
        for line in sys.stdin:
            print(gateway.reload(json.loads(line)).generation, flush=True)


main()
