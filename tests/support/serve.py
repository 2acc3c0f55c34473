"""A gateway process for tests: the configuration as one line of JSON on stdin, its URLs as one on stdout.

A further line is another configuration to be reloaded, answered by the generation's number. It stops on SIGTERM, and
also when stdin ends, so that it never outlives the tests.
"""

import json
import os
import select
import signal
import sys

from nylon import Gateway
from nylon.terminal import configure_logging


def main() -> None:
    configure_logging()
    # Through a pipe, for a signal that comes just before a read would only be seen after it.
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = json.loads(sys.stdin.readline())
    with Gateway(config) as gateway:
        print(json.dumps(gateway.urls), flush=True)
        while told not in select.select([sys.stdin, told], [], [])[0] and (line := sys.stdin.readline()):
            print(gateway.reload(json.loads(line)).generation, flush=True)


main()
