"""The page for a browser on this machine."""

import contextlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from manifold_lab.core.errors import InputError

LOOPBACK = "127.0.0.1"


def server(page: str, port: int) -> ThreadingHTTPServer:
    """A server of one page on the loopback interface; it serves once `serve_forever` is called.

    Raises:
        InputError: for a port that is not free, or none.
    """
    content = page.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path in ("/", "/index.html")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            self.wfile.write(content if found else b"")

        def log_message(self, *_words: object) -> None:
            """Say nothing of every request."""

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Handler)
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
