"""A file server on loopback that can misbehave in the ways that servers and networks do."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on loopback that answers as the handler does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class FileServer:
    """Serves `files`, and does to a request what `trouble[path]` holds for it, one trouble per request.

    Attributes:
        files: path → content.
        trouble: path → what is to happen to the next requests: `cut`, `flip`, `short`, `long`, `no range`,
            `chunked` (no length told, and cut), or a status code.
        requests: path and Range header of each request, in order; `versions`: path → versionId asked for.
        sent: path → bytes of content that were sent.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.trouble: dict[str, list[str | int]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.versions: dict[str, str] = {}
        self.sent: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda path: None
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[FileServer]:
        with serving(self._handler()) as self.url:
            yield self

    def _handler(owner) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                split = urlsplit(self.path)
                path = unquote(split.path).lstrip("/")
                asked = self.headers.get("Range")
                owner.requests.append((path, asked))
                for version in parse_qs(split.query).get("versionId", []):
                    owner.versions[path] = version
                owner.before(path)
                trouble = owner.trouble[path].pop(0) if owner.trouble.get(path) else ""
                if isinstance(trouble, int) or path not in owner.files:
                    self.send_response(trouble if isinstance(trouble, int) else 404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = owner.files[path]
                first = int(match[1]) if asked and (match := re.fullmatch(r"bytes=(\d+)-", asked)) and trouble != "no range" else 0
                body = content[first:]
                if trouble == "flip":
                    body = bytes([body[0] ^ 1]) + body[1:]
                total = len(content) + {"short": -1, "long": 1}.get(str(trouble), 0)
                self.send_response(206 if first else 200)
                if trouble == "chunked":
                    self.send_header("Transfer-Encoding", "chunked")
                else:
                    self.send_header("Content-Length", str(total - first))
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
                self.end_headers()
                if trouble in ("cut", "chunked"):
                    body = body[: len(body) // 2]
                    self.close_connection = True
                self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body) if trouble == "chunked" else body)
                owner.sent[path] += len(body)

        return Handler
