"""Files in a bucket: stored once by their content, found again, and what goes wrong in one line."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from tests import fake_storage, made

from silvertune.backends import cloud_storage
from silvertune.backends.cloud_storage import CloudFolder

KEY = "backend.service.folder"


@pytest.fixture(autouse=True)
def _new_clients() -> Iterator[None]:
    yield
    cloud_storage._client.cache_clear()


def folder(bucket: str, under: str = "/runs") -> CloudFolder:
    return CloudFolder(f"{bucket}{under}", KEY, "p")


@pytest.fixture
def requests_sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Method and path of each request that this process sends to Cloud Storage."""
    sent: list[str] = []
    send = requests.Session.request

    def counted(self: Any, method: str, url: str, *arguments: Any, **settings: Any) -> Any:
        sent.append(f"{method} {url}")
        return send(self, method, url, *arguments, **settings)

    monkeypatch.setattr(requests.Session, "request", counted)
    return sent


def test_a_file_is_stored_under_its_content_and_read_back(bucket: str, tmp_path: Path) -> None:
    content = b'{"a": 1}\n'
    (tmp_path / "train.jsonl").write_bytes(content)
    url = folder(bucket).store(content, "train.jsonl")
    assert url == f"{bucket}/runs/{hashlib.sha256(content).hexdigest()}/train.jsonl"
    assert folder(bucket).store(tmp_path / "train.jsonl", "train.jsonl") == url
    assert folder(bucket).store(b"other", "train.jsonl") != url
    path = url.removeprefix(f"{bucket}/runs/")
    assert folder(bucket).read(path) == content
    folder(bucket).download(path, tmp_path / "new" / "again")
    assert (tmp_path / "new" / "again").read_bytes() == content
    assert folder(bucket, "").read("runs/nothing") is None
    with made.refused(f"{KEY}: there is no {bucket}/runs/nothing"):
        folder(bucket).download("nothing", tmp_path / "nothing")


def test_only_what_is_in_the_folder_is_listed(bucket: str) -> None:
    for path in ("runs/b", "runs/a/c", "runs-of-others/d", "e"):
        folder(bucket, "").create(b"x", path)
    assert folder(bucket).paths() == ["a/c", "b"]
    assert folder(bucket, "/").under("runs/a").paths() == ["c"]
    assert len(folder(bucket, "").paths()) == 4


def test_what_is_there_is_not_sent_again(bucket: str, requests_sent: list[str]) -> None:
    for _ in range(3):
        folder(bucket).store(b"x" * 1000, "model.bin")
    assert sum(sent.startswith("POST") for sent in requests_sent) == 1


def test_many_store_the_same_at_once(bucket: str) -> None:
    def store(number: int) -> str:
        cloud_storage._client.cache_clear()
        return folder(bucket).store(b"the same", "train.jsonl")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(store, range(16)))) == 1
    assert len(folder(bucket).paths()) == 1


@pytest.mark.parametrize("megabytes", [0, 9])
def test_an_upload_whose_answer_is_lost_is_sent_again_and_was_ours(
    bucket: str, monkeypatch: pytest.MonkeyPatch, megabytes: int
) -> None:
    send, lost = requests.Session.request, []
    content = os.urandom(1000 + (megabytes << 20))

    def losing(self: Any, method: str, url: str, *arguments: Any, **settings: Any) -> Any:
        answer = send(self, method, url, *arguments, **settings)
        if method in ("POST", "PUT") and "/upload/" in url and len(lost) < 1:
            lost.append(url)
            raise requests.exceptions.ConnectionError("the answer is lost")
        return answer

    monkeypatch.setattr(requests.Session, "request", losing)
    url = folder(bucket).store(content, "model.bin")
    assert len(lost) == 1
    assert folder(bucket).read(url.removeprefix(f"{bucket}/runs/")) == content


def test_an_object_that_somebody_has_changed_is_told(bucket: str) -> None:
    folder(bucket).create(b"ours", "result.json")
    folder(bucket).create(b"ours", "result.json")
    with made.refused(f"{KEY}: {bucket}/runs/result.json has other content than its name says"):
        folder(bucket).create(b"another's", "result.json")
    assert folder(bucket).read("result.json") == b"ours"


@pytest.mark.parametrize("url", ["bucket", "s3://bucket/x", "gs://", "gs://Bucket", "gs://b/a b", "gs://b//x", 3, None])
def test_what_is_no_folder_of_cloud_storage_is_refused(url: Any) -> None:
    with made.refused(f"{KEY}={url}: want gs://bucket or gs://bucket/folder"):
        CloudFolder(url, KEY)


VERBS: dict[str, Callable[[CloudFolder], object]] = {
    "store": lambda folder: folder.store(b"x", "x"),
    "read": lambda folder: folder.read("x"),
    "paths": lambda folder: folder.paths(),
    "check_region": lambda folder: folder.check_region(fake_storage.REGION),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_bucket_that_is_not_there_is_told(bucket: str, verb: str) -> None:
    with made.refused(f"{KEY}={bucket}-gone/runs: there is no bucket {bucket[5:]}-gone"):
        VERBS[verb](folder(f"{bucket}-gone"))


@pytest.mark.parametrize("verb", VERBS)
def test_without_credentials_nothing_is_asked(verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with made.refused(f"{KEY}=gs://somebodys: no Google credentials on this machine: gcloud auth application-"):
        VERBS[verb](CloudFolder("gs://somebodys", KEY, "p"))


def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr("google.cloud.storage.retry.DEFAULT_RETRY._timeout", 0.1)
    with made.refused(f"{KEY}=gs://somebodys: ", "nothing is lost: the same command tries again"):
        CloudFolder("gs://somebodys", KEY, "p").paths()


def test_a_bucket_in_another_region_is_refused(bucket: str) -> None:
    folder(bucket).check_region(fake_storage.REGION)
    assert folder(bucket).probe(fake_storage.REGION).ok
    words = f"{KEY}={bucket}/runs: the bucket is in us-central1, and the jobs run in europe-west4; want a bucket in"
    with made.refused(words):
        folder(bucket).check_region("europe-west4")
    result = folder(bucket).probe("europe-west4")
    assert not result.ok
    assert words in result.mend


@pytest.mark.parametrize(
    ("location", "data_locations", "region", "fits"),
    [
        ("EU", None, "europe-west4", True),
        ("US", None, "europe-west4", False),
        ("US", None, "us-central1", True),
        ("EUR4", ["EUROPE-NORTH1", "EUROPE-WEST4"], "europe-west4", True),
        ("EUR4", ["EUROPE-NORTH1", "EUROPE-WEST4"], "europe-west1", False),
        (None, None, "europe-west1", True),
    ],
)
def test_a_bucket_of_several_regions_is_near_each_of_them(
    location: str | None,
    data_locations: list[str] | None,
    region: str,
    fits: bool,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("google.cloud.storage.Bucket.location", location)
    monkeypatch.setattr("google.cloud.storage.Bucket.data_locations", data_locations)
    assert folder(bucket).probe(region).ok is fits


def test_whoever_may_not_look_at_a_bucket_may_use_it(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.api_core.exceptions import Forbidden

    def forbidden(*arguments: Any, **settings: Any) -> Any:
        raise Forbidden("storage.buckets.get denied")

    monkeypatch.setattr("google.cloud.storage.Client.get_bucket", forbidden)
    folder(bucket).check_region("europe-west4")
    monkeypatch.setattr("google.cloud.storage.Client.list_blobs", forbidden)
    with made.refused(f"{KEY}={bucket}/runs: these Google credentials may not do that there (403 storage.buckets.get"):
        folder(bucket).paths()
