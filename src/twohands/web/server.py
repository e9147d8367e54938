"""The page that takes photos: a small server of the standard library, for one person at one machine.

It serves a handful of files that ship with the package and holds the last few results in memory. No part of a request becomes a path: files are
looked up by name in fixed tables, results by a random number. It answers only requests that name it as their host, so that no page from
elsewhere can talk to it through the user's browser."""

import json
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from twohands.errors import UserError
from twohands.pipeline import Pipeline
from twohands.schema import PhotoResult
from twohands.web.answer import FILES, file_of, reconstruct_upload, scene_of

LARGEST_UPLOAD_BYTES = 25_000_000
RESULTS_KEPT = 12
LONGEST_QUEUE = 4
"""Requests that wait for the networks; more are turned away at once."""
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_log = logging.getLogger(__name__)


class Desk:
    """The networks, one photo at a time, and the last results."""

    def __init__(self, model: Pipeline, example: bytes) -> None:
        self.model, self.example = model, example
        self._results: OrderedDict[str, PhotoResult] = OrderedDict()
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(LONGEST_QUEUE + 1)
        self._table = threading.Lock()

    def reconstruct(self, content: bytes, keep: bool) -> dict[str, Any]:
        """A photo's scene; with `keep` its files can be fetched later. UserError if it is no photo, or too many wait."""
        if not self._places.acquire(blocking=False):
            raise UserError("too many photos are waiting; try again in a moment")
        try:
            with self._turn:
                result = reconstruct_upload(content, self.model)
                scene = scene_of(result, self.model, with_photo=keep)
        finally:
            self._places.release()
        if keep and result.people:
            scene["id"] = secrets.token_urlsafe(12)
            with self._table:
                self._results[scene["id"]] = result
                while len(self._results) > RESULTS_KEPT:
                    self._results.popitem(last=False)
        return scene

    def file(self, number: str, name: str) -> bytes | None:
        """A file of a result that is still kept, else None."""
        with self._table:
            result = self._results.get(number)
        return None if result is None or name not in FILES else file_of(name, result, self.model)


def make_server(model: Pipeline, host: str = "127.0.0.1", port: int = 8000) -> ThreadingHTTPServer:
    """A server that is bound but does not serve yet; port 0 takes any free one. UserError if the address cannot be had."""
    desk = Desk(model, (resources.files("twohands") / "example" / "two_hands.jpg").read_bytes())

    class Handler(_Handler):
        pass

    Handler.desk = desk
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host} port {port} ({error}); choose another with --port, or 0 for any free one") from error
    server.daemon_threads = True
    Handler.hosts = None
    if host in LOOPBACK:
        Handler.hosts = {f"{name}:{server.server_address[1]}" for name in (*LOOPBACK, "[::1]")}
    return server


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    desk: Desk
    hosts: set[str] | None
    """Values of the Host header that are answered; None: any (the user has opened the server to others)."""
    server_version = "twohands"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        if not self._known_host():
            return
        path = self.path.partition("?")[0]
        if path in PAGE:
            name, kind = PAGE[path]
            self._send(HTTPStatus.OK, (resources.files("twohands.web") / "page" / name).read_bytes(), kind)
            return
        if path == "/example.jpg":
            self._send(HTTPStatus.OK, self.desk.example, "image/jpeg")
            return
        parts = path.split("/")
        if len(parts) == 4 and parts[:2] == ["", "result"]:
            content = self.desk.file(parts[2], parts[3])
            if content is not None:
                self._send(HTTPStatus.OK, content, FILES[parts[3]], f'attachment; filename="{parts[3]}"')
                return
            self._fail(HTTPStatus.NOT_FOUND, "this result is no longer kept; send the photo again")
            return
        self._fail(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        # What is not read now would be taken for the next request.
        self.close_connection = True
        if not self._known_host():
            return
        origin = self.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != self.headers.get("Host"):
            self._fail(HTTPStatus.FORBIDDEN, "this page may not send photos here")
            return
        path, _, query = self.path.partition("?")
        if path != "/photo":
            self._fail(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self._fail(HTTPStatus.LENGTH_REQUIRED, "send the photo with its length")
            return
        if int(length) > LARGEST_UPLOAD_BYTES:
            # A browser that is still sending does not read the answer.
            left = min(int(length), 4 * LARGEST_UPLOAD_BYTES)
            while left > 0 and (chunk := self.rfile.read(min(left, 65536))):
                left -= len(chunk)
            self._fail(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"photos may have at most {LARGEST_UPLOAD_BYTES // 10**6} MB; scale it down first"
            )
            return
        content = self.rfile.read(int(length))
        if len(content) < int(length):
            self._fail(HTTPStatus.BAD_REQUEST, "the photo did not arrive whole; send it again")
            return
        try:
            scene = self.desk.reconstruct(content, keep=query != "live")
        except UserError as error:
            self._fail(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
            return
        except Exception:
            _log.exception("a photo of %d bytes could not be reconstructed", len(content))
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong with this photo; the terminal says what")
            return
        self._send(HTTPStatus.OK, json.dumps(scene).encode(), "application/json")

    def _known_host(self) -> bool:
        if self.hosts is None or self.headers.get("Host") in self.hosts:
            return True
        self._fail(HTTPStatus.MISDIRECTED_REQUEST, "open this page by the address that the terminal shows")
        return False

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str, disposition: str | None = None) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if disposition is not None:
            self.send_header("Content-Disposition", disposition)
        self.end_headers()
        try:
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            _log.info("the browser went away before it was answered")

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def serve(model: Pipeline, host: str, port: int, ready: Callable[[str], object]) -> None:
    """Serves until interrupted; `ready` is told the address once the page can be opened."""
    with make_server(model, host, port) as server:
        shown = host if ":" not in host else f"[{host}]"
        ready(f"http://{shown}:{server.server_address[1]}/")
        server.serve_forever()
