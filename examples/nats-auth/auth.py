import hashlib
import os
from pathlib import Path

from nylon import NatsPlugin

# NATS_SERVERS and NATS_GROUP say where the broker is and which group this worker joins. In the gateway's own process
# it would be `NylonPlugin()`, and nothing below would change.
plugin = NatsPlugin()

users = {}


@plugin.initialize
def load_keys(config):  # once per worker, before the first call
    for line in Path(os.environ.get("API_KEYS", "keys.txt")).read_text().splitlines():
        digest, user = line.split()
        users[digest] = user


@plugin.phase_handler("auth")
def auth(phase):
    seen = {}  # of this request alone, kept for its later phases

    @phase.request_filter
    def check(ctx):
        key = ctx.request.headers.get("x-api-key", "")
        user = users.get(hashlib.sha256(key.encode()).hexdigest())
        if user is None:
            ctx.response.set_status(401).set_header("www-authenticate", "ApiKey")
            ctx.response.body_json({"error": "unauthorized"})
            return ctx.end()
        seen["user"] = ctx.request.headers["x-user"] = user
        ctx.next()

    @phase.response_filter
    def label(ctx):
        ctx.response.set_header("x-served-for", seen.get("user", "nobody"))

    @phase.logging
    def log(ctx):
        ctx.logger.info("%s %s for %s", ctx.response.status, ctx.request.path, seen.get("user", "nobody"))


if __name__ == "__main__":
    plugin.run()
