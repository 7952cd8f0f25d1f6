"""A registry that refuses costs no model: one line says where it is."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, RunData, RunInfo
from tests import made

from silvertune.tracking import registry

RUN = Run(
    RunInfo("r1", "0", "user", "FINISHED", 0, 1, "active", artifact_uri="mlflow-artifacts:/0/r1/artifacts"), RunData()
)
ANSWERS = {
    "without rights": (403, {"error_code": "PERMISSION_DENIED", "message": "user ada may not create models"}),
    "without a registry": (404, {"error_code": "ENDPOINT_NOT_FOUND", "message": "no registry here"}),
    "with a page": (404, None),
}


@pytest.fixture(params=ANSWERS)
def refusing(request: pytest.FixtureRequest) -> Iterator[str]:
    status, answer = ANSWERS[request.param]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b"<html>not found</html>" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if answer is None else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


def test_a_registry_that_refuses_is_told_with_where_the_model_is(refusing: str) -> None:
    words = ("tracking.register=tables: the registry refuses (", "runs:/r1/model", "the same command tries again")
    with made.refused(*words):
        registry.register(MlflowClient(refusing), RUN, "tables", "champion", {}, "")
