"""The page for a browser on this machine."""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from manifold_lab.core.errors import InputError

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")
CONNECTIONS = 16
"""Connections at a time."""
SILENCE, LONGEST = 10.0, 60.0
"""Seconds that a connection may say nothing, and that it may last."""


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of one page to who asks for this machine by name, and drops who says nothing for long."""

    timeout = SILENCE
    content = b""

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")
        here = (host[0] or host[2]).lower() in HOSTS  # another name is a foreign page's, made to mean this machine
        status = 403 if not here else 200 if self.path.partition("?")[0] in ("/", "/index.html") else 404
        content = self.content if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815  (a name of http.server)

    def log_message(self, *_arguments: object) -> None:
        """Write nothing about requests."""


class _Server(ThreadingHTTPServer):
    """Serves so many connections at a time; others wait or are closed."""

    daemon_threads = True

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((LOOPBACK, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread of its own, or close the connection where there are too many."""
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, which may not last for ever by a letter now and then."""
        end = threading.Timer(LONGEST, _cut, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self.free.release()

    def handle_error(self, *_arguments: object) -> None:
        """Write nothing about connections that break."""


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def server(page: str, port: int) -> ThreadingHTTPServer:
    """A server of one page on the loopback interface; it serves once `serve_forever` is called.

    Raises:
        InputError: for a port that is not free, or none.
    """
    handler = type("Handler", (_Handler,), {"content": page.encode()})
    try:
        return _Server(port, handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"port: {port} cannot be had ({error}); name another, or 0 for any") from None


def serve(page: str, port: int) -> None:
    """Serve until a key stops it.

    Raises:
        InputError: for a port that is not free, or none.
    """
    with server(page, port) as made, contextlib.suppress(KeyboardInterrupt):
        print(f"http://{LOOPBACK}:{made.server_port}/ until Ctrl-C", flush=True)
        made.serve_forever()
