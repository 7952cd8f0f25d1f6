"""Loopback doubles of Vertex AI: the tuning service over gRPC, and the endpoints of tuned models over HTTP.

Every message is held to Google's own protos; the files of a job are read from Cloud Storage as Google would. A tuned
model is a count of words: it answers with the word whose examples had most of a text's words, so that it learns what it
was sent. The log says what was made and billed, by the server's own account.
"""

import hashlib
import json
import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest
from aiohttp import web
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.aiplatform_v1 import types as v1
from google.protobuf import empty_pb2, json_format
from tests import fake_storage
from tests.llms.openai_double import served

BYTES_PER_TOKEN = 3
PROJECT, LOCATION = "my-project", "us-central1"


class TunedModel:
    """Naive Bayes on the words of the last question of each example."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.words: dict[str, Counter[str]] = defaultdict(Counter)
        for line in lines:
            answer = json.loads(line["contents"][-1]["parts"][0]["text"])["label"]
            self.words[answer].update(self._words(line["contents"][-2]["parts"][0]["text"]))

    @staticmethod
    def _words(text: str) -> list[str]:
        inner = re.search(r"<(item-\w+)>\n(.*)\n</\1>", text, re.DOTALL)
        return re.findall(r"\w+", (inner[2] if inner else text).lower())

    def probs(self, text: str, words: list[str]) -> dict[str, float]:
        size = len(set().union(*self.words.values())) + 1
        scores = {
            word: sum(
                math.log((self.words[word][token] + 1) / (sum(self.words[word].values()) + size))
                for token in self._words(text)
            )
            for word in words
        }
        top = max(scores.values())
        shares = {word: math.exp(max(score - top, -50)) for word, score in scores.items()}
        return {word: share / sum(shares.values()) for word, share in shares.items()}

    def answer(self, text: str, words: list[str], seed: int) -> str:
        """The likeliest word; with a seed, one drawn by the probabilities."""
        probs = self.probs(text, words)
        if not seed:
            return max(probs, key=lambda word: probs[word])
        drawn = int.from_bytes(hashlib.sha256(f"{seed} {text}".encode()).digest()[:6]) / 2**48
        for word, share in probs.items():
            if (drawn := drawn - share) < 0:
                return word
        return words[-1]


class Double:
    """What the server did. looks: how often a job is looked at before it ends. ends: the state in which it does.

    faults: one for each creation that goes wrong, in order: `lost`, `503` (both after the job was made), `lost before`.
    quota: jobs at a time. drops, cuts: examples that a job drops or cuts. deaf: looks that get UNAVAILABLE.
    """

    def __init__(self, *, looks: int = 1, ends: str | int = "JOB_STATE_SUCCEEDED", quota: int = 1000) -> None:
        self.looks, self.ends, self.quota = looks, ends, quota
        self.faults: list[str] = []
        self.drops, self.cuts, self.deaf, self.filters = 0, 0, 0, True
        self.jobs: dict[str, v1.TuningJob] = {}
        self.tuned: dict[str, TunedModel] = {}
        self.looked: Counter[str] = Counter()
        self.log: list[dict[str, Any]] = []
        self.asked: Counter[str] = Counter()
        self.refusal: Any = None
        self.lock = threading.RLock()
        self.address, self.url = "", ""

    # ------------------------------------------------------------------------------------------------ what it did

    def did(self, what: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log if entry["did"] == what]

    def jobs_by_label(self) -> Counter[str]:
        return Counter(entry["label"] for entry in self.did("made"))

    def jobs_by_files(self) -> Counter[str]:
        """How many jobs were made of the same files and settings."""
        return Counter(entry["content"] for entry in self.did("made"))

    def billed_tokens(self) -> int:
        return sum(entry["tokens"] for entry in self.did("billed"))

    # --------------------------------------------------------------------------------------- the tuning service

    def create(self, request: Any, context: Any) -> Any:
        with self.lock:
            fault = self.faults.pop(0) if self.faults else ""
            if fault == "lost before":
                context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            if self.refusal is not None:
                context.abort(*self.refusal)
            running = sum(job.state in (v1.JobState.JOB_STATE_PENDING, v1.JobState.JOB_STATE_RUNNING)
                          for job in self.jobs.values())  # fmt: skip
            if running >= self.quota:
                context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"Quota exceeded: {self.quota} concurrent tuning jobs"
                )
            job = request.tuning_job
            number = len(self.jobs) + 1
            try:
                self._read(job, number)
            except (AssertionError, json_format.ParseError) as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            job.name, job.state = f"{request.parent}/tuningJobs/{number}", v1.JobState.JOB_STATE_PENDING
            self.jobs[job.name] = job
            self.log.append({"did": "made", "job": job.name, "label": dict(job.labels).get("silvertune-key", ""),
                             "content": f"{job.base_model} {job.supervised_tuning_spec}"})  # fmt: skip
            if fault == "503":
                context.abort(grpc.StatusCode.UNAVAILABLE, "try again later")
            if fault == "lost":
                context.abort(grpc.StatusCode.UNKNOWN, "Stream removed")
            return job

    def _read(self, job: Any, number: int) -> None:
        """What Google would look at: the files, their lines, the name of the model."""
        assert re.fullmatch(r"gemini-[\w.-]+", job.base_model), f"{job.base_model} can't be tuned"
        specification = job.supervised_tuning_spec
        assert all(re.fullmatch(r"[a-z0-9_-]{1,63}", text) for pair in dict(job.labels).items() for text in pair)
        assert 1 <= specification.hyper_parameters.epoch_count <= 100
        assert specification.hyper_parameters.adapter_size
        lines = _lines(specification.training_dataset_uri)
        if specification.validation_dataset_uri:
            _lines(specification.validation_dataset_uri)
        self.tuned[str(number)] = TunedModel(lines)
        tokens = sum(len(json.dumps(line, ensure_ascii=False).encode()) for line in lines) // BYTES_PER_TOKEN
        job.tuning_data_stats = v1.TuningDataStats(
            supervised_tuning_data_stats=v1.SupervisedTuningDataStats(
                tuning_dataset_example_count=len(lines), total_billable_token_count=tokens, tuning_step_count=7,
                total_truncated_example_count=self.cuts, truncated_example_indices=list(range(1, self.cuts + 1)),
                dropped_example_reasons=["too long"] * self.drops,
            )
        )  # fmt: skip

    def get(self, request: Any, context: Any) -> Any:
        with self.lock:
            if request.name not in self.jobs:
                context.abort(grpc.StatusCode.NOT_FOUND, request.name)
            if self.deaf:
                self.deaf -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            job = self.jobs[request.name]
            self.looked[job.name] += 1
            if job.state == v1.JobState.JOB_STATE_CANCELLING:
                job.state = v1.JobState.JOB_STATE_CANCELLED
            elif job.state in (v1.JobState.JOB_STATE_PENDING, v1.JobState.JOB_STATE_RUNNING):
                job.state = v1.JobState.JOB_STATE_RUNNING
                if self.looked[job.name] > self.looks:
                    self._end(job)
            return job

    def _end(self, job: Any) -> None:
        job.state = self.ends if isinstance(self.ends, int) else v1.JobState[self.ends]
        if self.ends == "JOB_STATE_SUCCEEDED":
            job.tuned_model = v1.TunedModel(endpoint=self.endpoint(job.name), model="projects/1/locations/x/models/9@1")
            statistics = job.tuning_data_stats.supervised_tuning_data_stats
            epochs = job.supervised_tuning_spec.hyper_parameters.epoch_count
            self.log.append(
                {"did": "billed", "job": job.name, "tokens": statistics.total_billable_token_count * epochs}
            )
        else:
            job.error = {"code": 3, "message": "as the test says"}

    @staticmethod
    def endpoint(job: str) -> str:
        return f"{job.rpartition('/tuningJobs/')[0]}/endpoints/{job.rpartition('/')[2]}"

    def list(self, request: Any, context: Any) -> Any:
        with self.lock:
            if request.filter and not self.filters:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "filter is not supported")
            match = re.fullmatch(r'labels\.([\w-]+)="([\w-]+)"', request.filter)
            jobs = [job for job in self.jobs.values()
                    if not match or dict(job.labels).get(match[1]) == match[2]]  # fmt: skip
            start = int(request.page_token or 0)
            size = min(request.page_size or 100, 50)  # so that there are several pages
            more = str(start + size) if len(jobs) > start + size else ""
            return v1.ListTuningJobsResponse(tuning_jobs=jobs[start : start + size], next_page_token=more)

    def cancel(self, request: Any, context: Any) -> Any:
        with self.lock:
            self.log.append({"did": "cancelled", "job": request.name})
            self.jobs[request.name].state = v1.JobState.JOB_STATE_CANCELLING
            return empty_pb2.Empty()

    # -------------------------------------------------------------------------------------------- the endpoints

    async def generate(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        held: dict[str, Any] = {**body, "generationConfig": dict(body["generationConfig"])}
        for name in ("responseSchema", "thinkingConfig"):  # google-genai writes some of their members with underscores
            held["generationConfig"].pop(name, None)
        try:
            json_format.ParseDict(held, v1.GenerateContentRequest.pb()())
        except json_format.ParseError as error:
            return web.json_response({"error": {"code": 400, "message": str(error), "status": "INVALID"}}, status=400)
        number = request.path.rpartition("/endpoints/")[2].partition(":")[0]
        words = body["generationConfig"]["responseSchema"]["properties"]["label"]["enum"]
        text = body["contents"][-1]["parts"][0]["text"]
        word = self.tuned[number].answer(text, words, body["generationConfig"].get("seed", 0))
        with self.lock:
            self.asked[hashlib.sha256(json.dumps([number, body]).encode()).hexdigest()] += 1
        answer = {
            "candidates": [{"content": {"role": "model", "parts": [{"text": json.dumps({"label": word})}]},
                            "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 5, "totalTokenCount": 105},
            "modelVersion": "gemini-3.5-flash-lite",
        }  # fmt: skip
        json_format.ParseDict(answer, v1.GenerateContentResponse.pb()())
        return web.json_response(answer)

    async def token(self, request: web.Request) -> web.Response:
        return web.json_response({"access_token": "ya29.double", "expires_in": 3600, "token_type": "Bearer"})

    async def quotas(self, request: web.Request) -> web.Response:
        bucket = {"effectiveLimit": str(self.quota), "dimensions": {"region": LOCATION}}
        return web.json_response({"consumerQuotaLimits": [{"quotaBuckets": [{"effectiveLimit": "5"}, bucket]}]})


def own(lines: list[bytes], model: Any, items: pd.DataFrame) -> pd.DataFrame:
    """What a model that was tuned on these lines says of items, without any server: 1 for the class it answers."""
    tuned = TunedModel([json.loads(line) for line in lines])
    rows = {}
    for view, prompt in model.prompts([view for view in ("json", "text") if view in items]).items():
        class_of = {word: name for name, word in prompt.words.items()}
        for item, text in items[view].dropna().items():
            word = tuned.answer(prompt.request(text).messages[-1].content, list(class_of), 0)
            rows[item, view] = {name: float(class_of[word] == name) for name in model.task.classes}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(model.task.classes))
    return table.set_axis(pd.MultiIndex.from_tuples(rows, names=["item_id", "view"]))


def _lines(uri: str) -> list[dict[str, Any]]:
    """The lines of a file in Cloud Storage, each held to Google's own proto."""
    assert uri.endswith(".jsonl"), "training_dataset_uri should be a GCS object of type JSONL."
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    client = storage.Client(project="p", credentials=AnonymousCredentials(),
                            client_options=ClientOptions(api_endpoint=fake_storage.address()))  # fmt: skip
    lines = [json.loads(line) for line in client.bucket(bucket).blob(name).download_as_bytes().splitlines()]
    for line in lines:
        assert set(line) == {"systemInstruction", "contents"}
        json_format.ParseDict(line, v1.GenerateContentRequest.pb()())
        roles = [turn["role"] for turn in line["contents"]]
        assert roles == ["user", "model"] * (len(roles) // 2), roles
    return lines


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """The doubles on ports of their own, in threads."""

    def unary(function: Any, request: Any, write: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            function, request_deserializer=request.deserialize, response_serializer=write
        )

    handlers = {
        "CreateTuningJob": unary(double.create, v1.CreateTuningJobRequest, v1.TuningJob.serialize),
        "GetTuningJob": unary(double.get, v1.GetTuningJobRequest, v1.TuningJob.serialize),
        "ListTuningJobs": unary(double.list, v1.ListTuningJobsRequest, v1.ListTuningJobsResponse.serialize),
        "CancelTuningJob": unary(double.cancel, v1.CancelTuningJobRequest, empty_pb2.Empty.SerializeToString),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    service = "google.cloud.aiplatform.v1.GenAiTuningService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    double.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    def add_routes(app: web.Application) -> None:
        app.router.add_post("/{path:.*}:generateContent", double.generate)
        app.router.add_post("/token", double.token)
        app.router.add_get("/v1beta1/projects/{path:.*}", double.quotas)

    try:
        with served(add_routes) as address:
            double.url = address
            yield double
    finally:
        server.stop(0)


def write_credentials(file: Path, double: Double) -> Path:
    """A service account's key file whose tokens the double gives out: GOOGLE_APPLICATION_CREDENTIALS names it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    content = {
        "type": "service_account", "project_id": PROJECT, "private_key_id": "1", "private_key": key.decode(),
        "client_email": "double@my-project.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": f"{double.url.rstrip('/')}/token",
    }  # fmt: skip
    file.write_text(json.dumps(content))
    return file


@contextmanager
def running(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Double]:
    """The doubles, with credentials for them in the environment; needs the fixture `bucket` beside it."""
    with serving(Double(**settings)) as double:
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(write_credentials(folder / "key.json", double)))
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        yield double


def overrides(double: Double, bucket: str) -> list[str]:
    """What a command line needs to tune and ask by the doubles."""
    return [
        "backend=vertex", "model=gemini_tuned", f"backend.service.project={PROJECT}",
        f"backend.service.location={LOCATION}", f"backend.service.storage={bucket}/silvertune",
        "backend.service.usd_per_million_tokens=1.5", "backend.service.price_as_of=2026-11-29",
        f"backend.service.base_url={double.address}", f"backend.service.quota_base_url={double.url.rstrip('/')}",
        "backend.poll_s=0.02", "backend.deadline_s=60", f"model.llm.base_url={double.url}",
        "model.llm.limits.backoff_s=0.01", "model.llm.limits.longest_pause_s=0.05",
    ]  # fmt: skip
