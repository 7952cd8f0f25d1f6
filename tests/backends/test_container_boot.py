"""What a container does before silvertune is installed there: it asks again where the network fails for a moment."""

import http.server
import threading
from collections.abc import Callable, Iterator

import pytest

from silvertune.backends import container_boot


class Storage(http.server.BaseHTTPRequestHandler):
    """Answers with the codes of `answers`, in their order, and then with 200; a code of 0 breaks the connection off."""

    answers: list[int]

    def do_GET(self) -> None:
        code = self.answers.pop(0) if self.answers else 200
        if code == 0:
            self.close_connection = True
            return
        self.send_response(code)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"content")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., bytes]]:
    """Reads an object of a server that answers as told; pauses are not waited for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "set")
    monkeypatch.setattr(container_boot, "STORAGE", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(container_boot.time, "sleep", lambda seconds: None)

    def read(*answers: int) -> bytes:
        Storage.answers = list(answers)
        return container_boot.read("gs://bucket/folder/object")

    yield read
    server.shutdown()
    server.server_close()


def test_a_moment_without_an_answer_does_not_fail_the_job(reading: Callable[..., bytes]) -> None:
    assert reading(503, 0, 429, 500) == b"content"


def test_what_stays_so_is_told_with_its_address(reading: Callable[..., bytes]) -> None:
    with pytest.raises(OSError, match=r"/storage/v1/b/bucket/o/folder%2Fobject.*: HTTP Error 403"):
        reading(403)
    assert Storage.answers == []
    with pytest.raises(OSError, match="HTTP Error 503"):
        reading(*[503] * 6)
