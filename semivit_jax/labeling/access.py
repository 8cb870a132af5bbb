"""Let nobody in but the person who started the server: token, host and origin, checked before anything is answered."""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_HOSTS = ("127.0.0.1", "localhost", "[::1]")  # as a browser on this machine, or at the end of a tunnel, calls it
# Nothing is loaded from elsewhere, run from a text, sent elsewhere or shown inside another page.
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address holds the token
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Access:
    """An application behind a token that is the first part of every path."""

    def __init__(self, app: ASGIApp, token: str):
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answer = self._refusal(scope)
        if answer is not None:
            return await answer(scope, receive, _with_headers(send))
        inside = scope["path"].removeprefix(f"/{self._token}")
        if not inside:
            return await RedirectResponse(f"/{self._token}/")(scope, receive, _with_headers(send))
        return await self._app({**scope, "path": inside, "raw_path": inside.encode()}, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is not let in; None for one that is."""
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in _HOSTS and host not in _HOSTS:  # a name of somebody else's that leads here
            return PlainTextResponse("this server answers to 127.0.0.1 and localhost alone", 421)
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return PlainTextResponse("this server answers its own pages alone", 403)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return PlainTextResponse("this server answers its own pages alone", 403)
        token = scope["path"].removeprefix("/").partition("/")[0]
        if not secrets.compare_digest(token.encode(errors="replace"), self._token.encode()):
            return PlainTextResponse("open the whole address that `semivit label` printed", 404)
        return None


def _with_headers(send: Send) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {key.lower() for key, _ in message["headers"]}
            more = [(key.encode(), value.encode()) for key, value in _HEADERS.items() if key.encode() not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending
