"""A loopback double of OpenAI's files and batches, which holds requests and answers to the SDK's own types."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from openai.types import Batch, FileObject
from tests.llms import openai_double
from tests.llms.openai_double import error, served


class Double(openai_double.Double):
    """What the server did.

    Attributes:
        looks: How often a batch says that it is in progress before it ends.
        fates: How the next batches end: `completed` (also where there is none left), `expired`, `cancelled`, each of
            the two after half of the requests, or `failed`; what else there is, is the code of an error.
        refusals: Answers to the next attempts to make a batch, in place of a batch.
        lost: So many of the next batches are made, and the answer is lost.
        fails: The text of a request -> whether it fails with status 500.
        answered: How often each request was answered in a batch, by its custom_id.
        alter: The lines of a file of results -> those that it has.
        not_yet: At so many of the next looks, a file of results is not there.
        late: So many of the next answers call a batch completed and name no file of results.
        states: OpenAI's name of a state -> this server's.
    """

    tokens = (100, 5)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.looks = 1
        self.fates: list[str] = []
        self.refusals: list[web.Response] = []
        self.lost = 0
        self.fails: Callable[[str], bool] = lambda text: False
        self.answered: Counter[str] = Counter()
        self.alter: Callable[[list[str]], list[str]] = lambda lines: lines
        self.not_yet = self.late = 0
        self.states: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}

    def sizes(self) -> list[int]:
        """The number of requests of each batch."""
        return [self.files[batch["input_file_id"]].count("\n") for batch in self.batches.values()]

    @staticmethod
    def refusal(status: int, words: str, headers: dict[str, str] | None = None) -> web.Response:
        return error(status, words, "", headers)

    async def upload(self, request: web.Request) -> web.Response:
        fields = await request.post()
        assert fields["purpose"] == "batch"
        assert fields["expires_after[anchor]"] == "created_at"
        file: Any = fields["file"]
        name = f"file-{len(self.files)}"
        self.files[name] = file.file.read().decode()
        told = {"id": name, "bytes": len(self.files[name]), "created_at": 1, "filename": file.filename,
                "object": "file", "purpose": "batch", "status": "processed"}  # fmt: skip
        return web.json_response(text=FileObject.model_validate(told).model_dump_json())

    async def create(self, request: web.Request) -> web.Response:
        if self.refusals:
            return self.refusals.pop(0)
        body = json.loads(await request.read())
        assert set(body) == {"input_file_id", "endpoint", "completion_window", "metadata"}
        name = f"batch_{len(self.batches)}"
        fate = self.fates.pop(0) if self.fates else "completed"
        batch = {
            "id": name, "completion_window": "24h", "created_at": 1, "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"], "object": "batch", "status": "in_progress",
            "metadata": body["metadata"],
        }  # fmt: skip
        self.batches[name] = batch | {"looks": self.looks, "fate": fate}
        if self.lost:
            self.lost -= 1
            assert request.transport is not None
            request.transport.close()
        return self._told(name)

    async def retrieve(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        batch = self.batches[name]
        batch["looks"] -= 1
        if batch["looks"] < 0 and batch["status"] == "in_progress":
            self._end(name)
        return self._told(name)

    async def cancel(self, request: web.Request) -> web.Response:
        """It ends, at the next look, with what was answered until then."""
        batch = self.batches[request.match_info["name"]]
        if batch["status"] != "in_progress":
            return error(409, f"Cannot cancel a batch with status '{batch['status']}'.", "")
        batch |= {"fate": "cancelled", "looks": 0}
        return self._told(request.match_info["name"])

    async def list(self, request: web.Request) -> web.Response:
        names = list(self.batches)[::-1]
        after = request.query.get("after")
        names = names[names.index(after) + 1 :] if after else names
        page = [json.loads(self._text(name)) for name in names[:2]]  # small pages, so that there are several
        return web.json_response({"object": "list", "data": page, "has_more": len(names) > 2})

    async def content(self, request: web.Request) -> web.Response:
        text = self.files.get(request.match_info["name"])
        if text is None or self.not_yet:
            self.not_yet -= self.not_yet > 0
            return error(404, "No such File object")
        return web.Response(text="".join(self.alter(text.splitlines(keepends=True))))

    def forget_results(self) -> None:
        """As OpenAI does after some weeks."""
        for batch in self.batches.values():
            self.files.pop(batch.get("output_file_id"), None)

    def _end(self, name: str) -> None:
        batch = self.batches[name]
        if batch["fate"] not in ("completed", "expired", "cancelled"):
            failure = {
                "code": batch["fate"],
                "message": f"Enqueued {batch['fate']} reached",
                "line": None,
                "param": None,
            }
            batch |= {"status": "failed", "errors": {"object": "list", "data": [failure]}}
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        most = len(lines) if batch["fate"] == "completed" else len(lines) // 2
        done, failed = [], []
        for number, line in enumerate(reversed(lines)):  # in no order
            assert set(line) == {"custom_id", "method", "url", "body"}
            assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
            self.check(line["body"])
            entry: dict[str, Any] = {
                "id": f"r{number}",
                "custom_id": line["custom_id"],
                "response": None,
                "error": None,
            }
            if number >= most:
                entry["error"] = {"code": f"batch_{batch['fate']}", "message": "This request could not be executed"}
                failed.append(entry)
            elif self.fails(line["body"]["messages"][1]["content"]):
                entry["response"] = {"status_code": 500, "request_id": "x", "body": {"error": {"message": "oops"}}}
                failed.append(entry)
            else:
                text = line["body"]["messages"][1]["content"]
                word = self.says(text)
                said = json.loads(openai_double.completion(line["body"], json.dumps({"label": word}), word))
                self.answered[line["custom_id"]] += 1
                entry["response"] = {"status_code": 200, "request_id": "x", "body": said}
                done.append(entry)
        for kind, entries in (("output_file_id", done), ("error_file_id", failed)):
            if entries:
                batch[kind] = f"file-{len(self.files)}"
                self.files[batch[kind]] = "".join(json.dumps(entry) + "\n" for entry in entries)
        batch["status"] = batch["fate"]

    def _told(self, name: str) -> web.Response:
        told = json.loads(self._text(name))
        if self.late and told["status"] == "completed":
            self.late -= 1
            told["output_file_id"] = None
        return web.json_response(told | {"status": self.states.get(told["status"], told["status"])})

    def _text(self, name: str) -> str:
        told = {key: value for key, value in self.batches[name].items() if key not in ("looks", "fate")}
        return Batch.model_validate(told).model_dump_json()


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """The double on a port of its own, in a thread."""

    def add_routes(app: web.Application) -> None:
        app.router.add_post("/v1/chat/completions", double.chat)
        app.router.add_post("/v1/files", double.upload)
        app.router.add_get("/v1/files/{name}/content", double.content)
        app.router.add_post("/v1/batches", double.create)
        app.router.add_get("/v1/batches", double.list)
        app.router.add_get("/v1/batches/{name}", double.retrieve)
        app.router.add_post("/v1/batches/{name}/cancel", double.cancel)

    with served(add_routes) as address:
        double.url = f"{address}/v1"
        yield double


__all__ = ["Double", "error", "serving"]
