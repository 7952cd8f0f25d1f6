"""Google Cloud without an account: what is wrong with credentials, places and answers is told in one line."""

from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcTransport
from tests import made

from silvertune.backends import google_cloud
from silvertune.errors import UserError

SECRET = "AIzaSyPlanted-4f9a8b7c6d5e4f3a2b1c"


def test_a_package_that_is_missing_is_named_with_the_way_to_it() -> None:
    google_cloud.check_packages("backend.service", "google.auth")
    with made.refused("backend.service: needs google.nowhere.at_all: pip install 'silvertune[vertex]'"):
        google_cloud.check_packages("backend.service", "google.auth", "google.nowhere.at_all")


@pytest.mark.parametrize("project", ["my-project-123", "example.com:my-project", 123456789012, "123456789012"])
def test_a_project_and_a_region_are_taken(project: object) -> None:
    google_cloud.check_place("backend.service", project, "europe-west4")


@pytest.mark.parametrize("project", [SECRET, "", None, "My Project", "-----BEGIN PRIVATE KEY-----", 1.5])
def test_what_can_be_no_project_is_refused_and_not_repeated(project: object) -> None:
    with pytest.raises(UserError, match=r"^backend\.service\.project: want the id of a Google Cloud project") as told:
        google_cloud.check_place("backend.service", project, "europe-west4")
    assert not project or str(project) not in str(told.value)


@pytest.mark.parametrize("location", ["global", "eu", "", None, "https://europe-west4"])
def test_what_is_no_region_is_refused(location: object) -> None:
    with made.refused("backend.service.location: want one region", "not global"):
        google_cloud.check_place("backend.service", "my-project", location)


@pytest.mark.parametrize("error", [DefaultCredentialsError("none"), OSError("no file"), ValueError("no JSON")])
def test_without_credentials_it_says_how_to_get_them(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    import google.auth

    def none(**_: Any) -> Any:
        raise error

    monkeypatch.setattr(google.auth, "default", none)
    with made.refused("backend.service: no Google credentials on this machine", "gcloud auth"):
        google_cloud.client(JobServiceClient, JobServiceGrpcTransport, "backend.service", "europe-west4", None)


def test_a_client_speaks_to_the_region_or_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    import google.auth
    from google.oauth2.credentials import Credentials

    def client(base_url: str | None) -> Any:
        return google_cloud.client(JobServiceClient, JobServiceGrpcTransport, "backend", "europe-west4", base_url)

    addresses: list[str] = []
    monkeypatch.setattr(grpc, "insecure_channel", lambda address: addresses.append(address) or _channel())
    client("http://127.0.0.1:1234")
    assert addresses == ["127.0.0.1:1234"]
    monkeypatch.setattr(google.auth, "default", lambda **_: (Credentials("ya29.test"), "mine"))
    assert client(None).api_endpoint == "europe-west4-aiplatform.googleapis.com"
    assert client("https://example.org").api_endpoint == "example.org"
    with made.refused("backend.base_url=ftp://host: want http://host:port"):
        client("ftp://host")


def _channel() -> grpc.Channel:
    return grpc.secure_channel("127.0.0.1:1", grpc.local_channel_credentials())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RefreshError("expired"), "log in anew"),
        (exceptions.Unauthenticated("who?"), "Google refused it (401 who?); check the roles"),
        (exceptions.PermissionDenied("no\nrole"), "no role); check the roles Vertex AI User"),
        (exceptions.ResourceExhausted("0 of 0"), "the quota is used up"),
        (exceptions.InvalidArgument("not JSONL"), "Google refused it (400 not JSONL)"),
        (exceptions.NotFound("no bucket"), "Google refused it (404 no bucket)"),
    ],
)
def test_what_a_person_can_mend_is_told(error: Exception, words: str) -> None:
    told = google_cloud.what_to_mend(error, "backend.service")
    assert told is not None
    assert told.startswith("backend.service: ")
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "error",
    [exceptions.ServiceUnavailable("503"), exceptions.DeadlineExceeded("504"), exceptions.InternalServerError("500"),
     exceptions.Unknown("?"), exceptions.Aborted("again"), exceptions.Cancelled("cut off"), ConnectionError("reset")],
)  # fmt: skip
def test_of_all_else_nobody_knows_whether_it_took(error: Exception) -> None:
    assert google_cloud.what_to_mend(error, "backend.service") is None
