from nylon import NylonPlugin

plugin = NylonPlugin()


@plugin.phase_handler("auth")
def auth(phase):  # runs once per request: what it closes over lives across its phases
    @phase.request_filter
    def check(ctx):
        if ctx.request.headers.get("x-api-key") != ctx.payload["key"]:
            ctx.response.set_status(401).set_header("www-authenticate", "ApiKey")
            ctx.response.body_json({"error": "unauthorized"})
            return ctx.end()  # the origin never sees this request
        ctx.request.headers["x-user"] = "42"
        ctx.next()

    @phase.logging
    def log(ctx):
        print(ctx.request.path, ctx.response.status, ctx.response.duration, flush=True)
