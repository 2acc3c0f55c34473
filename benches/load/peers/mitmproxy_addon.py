"""The same decision as a mitmproxy addon; large bodies are streamed."""

from mitmproxy import http


class Check:
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.request.path != "/open" and flow.request.headers.get("x-api-key") != "k123":
            flow.response = http.Response.make(401)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if int(flow.response.headers.get("content-length", "0")) > 65536:
            flow.response.stream = True


addons = [Check()]
