"""The page of a run on this machine's own address, by the server that Flower brings."""

from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caafp_app.errors import RunError, SettingsError
from caafp_app.watch.page import POLICY, SCRIPT, content, page, style
from caafp_app.watch.view import View, Watcher

HOST = "127.0.0.1"
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def build(folder: Path) -> Starlette:
    """Return an app that shows one run directory, to browsers of this machine."""
    watcher = Watcher(folder)

    # Starlette calls what is not async in a thread.
    def show(made: Callable[[View], str]) -> Response:
        try:
            return Response(made(watcher.look()), 200, _HEADERS, "text/html")
        except RunError as error:
            return Response(str(error), 503, _HEADERS, "text/plain")

    def fixed(text: str, kind: str) -> Callable[[Request], Response]:
        return lambda _: Response(text, 200, _HEADERS, kind)

    routes = [
        Route("/", lambda _: show(page)),
        Route("/view", lambda _: show(content)),
        Route("/watch.js", fixed(SCRIPT, "text/javascript")),
        Route("/watch.css", fixed(style(), "text/css")),
    ]
    # A page of the web could make its own name lead here: only this machine's names are answered.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=routes, middleware=[hosts])


def serve(folder: Path, port: int) -> None:
    """Serve the page until Ctrl-C; SettingsError if the port is taken."""
    server = uvicorn.Server(
        uvicorn.Config(build(folder), host=HOST, port=port, log_level="error", access_log=False)
    )
    try:
        server.run()
    except SystemExit as error:
        raise SettingsError(f"--port: expected a port that is free, found {port}") from error
