"""Serves one configuration until SIGTERM, as `nylon run -c FILE` does. `gateway.py FILE`"""

import signal
import sys

from nylon import Gateway, _core

signal.signal(signal.SIGTERM, signal.default_int_handler)
_core.start_logging("error")
with Gateway.from_file(sys.argv[1]) as gateway:
    try:
        gateway.wait()
    except KeyboardInterrupt:
        gateway.stop(grace=0.2)
