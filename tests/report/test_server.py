"""The page's server: one page, to this machine alone, however it is asked."""

import contextlib
import http.client
import importlib
import socket
import threading
from collections.abc import Iterator

import pytest

page_server = importlib.import_module("manifold_lab.report.html.server")  # a name that is a function too


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(page_server, "CONNECTIONS", 3)
    monkeypatch.setattr(page_server._Handler, "timeout", 0.5)
    with page_server.server("<p>ä</p>", 0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made.server_port
        made.shutdown()


def asked(port: int, method: str, path: str = "/", host: str | None = None) -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.getheader("Content-Length")


def test_get_and_head_answer_with_the_page_and_its_length(port: int) -> None:
    page = "<p>ä</p>".encode()
    assert asked(port, "GET") == (200, page, str(len(page)))
    assert asked(port, "HEAD") == (200, b"", str(len(page)))
    assert asked(port, "GET", "/other")[:2] == (404, b"")
    assert asked(port, "POST")[0] == 501
    assert asked(port, "GET", "/?again", "LOCALHOST:1")[:2] == (200, page)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil"])
def test_another_host_s_page_is_refused(port: int, host: str) -> None:
    """A foreign page whose name is made to resolve to this machine reads nothing."""
    assert asked(port, "GET", host=host)[:2] == (403, b"")
    assert asked(port, "GET", host=f"localhost:{port}")[0] == 200


def test_silent_connections_are_bounded_and_end(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for one in silent:
        one.settimeout(10)
        assert one.recv(1) == b""  # closed: at once beyond three, those after the time-out
        one.close()
    assert asked(port, "GET")[0] == 200


def test_a_connection_that_says_a_letter_now_and_then_ends_too(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "LONGEST", 1.0)
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection, pytest.raises(ConnectionError):
        for _ in range(100):
            connection.sendall(b"G")
            with contextlib.suppress(TimeoutError):
                if connection.recv(1) == b"":
                    raise ConnectionError
