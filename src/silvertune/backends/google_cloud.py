"""Google Cloud as backends meet it: credentials, clients, and what its errors mean, each in one line."""

import importlib.util
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from silvertune.errors import UserError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LOG_IN = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS"
_PROJECT = re.compile(r"(?:[a-z0-9.-]{1,61}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|\d{4,20}")
_REGION = re.compile(r"[a-z]+-[a-z]+\d{1,2}")


def check_packages(setting: str, *modules: str) -> None:
    """Refuse to go on without Google's packages.

    Args:
        setting: The configuration key that needs them, for the message.
        modules: Import paths, such as `google.cloud.storage`.

    Raises:
        UserError: One of them can't be imported.
    """
    for module in modules:
        try:
            is_there = importlib.util.find_spec(module) is not None
        except ImportError:  # a package above it is missing
            is_there = False
        if not is_there:
            raise UserError(f"{setting}: needs {module}: pip install 'silvertune[vertex]'")


def check_place(setting: str, project: object, location: object) -> None:
    """Refuse what can't be a project and a region. What is wrong is not repeated: it may be a key.

    Args:
        setting: The configuration key above `project` and `location`.
        project: Id or number of a Google Cloud project.
        location: A region.

    Raises:
        UserError: One of them is no such thing.
    """
    if not isinstance(project, str | int) or not _PROJECT.fullmatch(str(project)):
        raise UserError(f"{setting}.project: want the id of a Google Cloud project, such as my-project-123, and no key")
    if not isinstance(location, str) or not _REGION.fullmatch(location):
        raise UserError(f"{setting}.location: want one region, such as europe-west4 or us-central1, not global")


def credentials(setting: str) -> "Credentials":
    """This machine's Google credentials.

    Args:
        setting: The configuration key that needs them, for the message.

    Returns:
        What Google's clients take; nothing is asked of Google yet.

    Raises:
        UserError: There are none, or they can't be read.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        return google.auth.default(scopes=[SCOPE])[0]
    except (GoogleAuthError, OSError, ValueError):
        raise UserError(f"{setting}: no Google credentials on this machine that can be used: {LOG_IN}") from None


def client(client_class: Any, transport_class: Any, setting: str, location: str, base_url: str | None) -> Any:
    """One of Google's gRPC clients. It tries nothing again by itself, as long as its methods are given no retry.

    Args:
        client_class: Such as `JobServiceClient`.
        transport_class: Its gRPC transport.
        setting: The configuration key that needs it, for messages.
        location: The region whose service is asked.
        base_url: Another address of the service; `http://host:port` is spoken to without TLS and credentials. None:
            Google's.

    Returns:
        The client.

    Raises:
        UserError: There are no credentials, or the address is none.
    """
    if base_url is None:
        address = f"{location}-aiplatform.googleapis.com"
        return client_class(credentials=credentials(setting), client_options={"api_endpoint": address})
    match = re.fullmatch(r"(https?)://([\w.-]+(?::\d+)?)/?", base_url)
    if match is None:
        raise UserError(f"{setting}.base_url={base_url}: want http://host:port or https://host, or null")
    if match[1] == "https":
        return client_class(credentials=credentials(setting), client_options={"api_endpoint": match[2]})
    import grpc

    return client_class(transport=transport_class(channel=grpc.insecure_channel(match[2])))


def what_to_mend(error: Exception, setting: str) -> str | None:
    """What an error of Google's says that only a person can mend; then nothing was made.

    Args:
        error: What a call raised.
        setting: The configuration key that the call is about.

    Returns:
        One line; None where asking again may help, or where nobody knows whether the call took.
    """
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError

    words = " ".join(str(error).split())[:300]  # its cause says the same again
    if isinstance(error, GoogleAuthError):
        return f"{setting}: Google's credentials do not work; log in anew: {LOG_IN}"
    if isinstance(error, exceptions.Unauthenticated | exceptions.Forbidden | exceptions.Unauthorized):
        return (
            f"{setting}: Google refused it ({words}); check the roles Vertex AI User and Storage Object Admin, and "
            "that the API is enabled"
        )
    if isinstance(error, exceptions.ResourceExhausted | exceptions.TooManyRequests):
        return f"{setting}: the quota is used up ({words}); wait for jobs to end, or raise it"
    if isinstance(error, exceptions.ClientError) and not isinstance(error, exceptions.Cancelled | exceptions.Aborted):
        return f"{setting}: Google refused it ({words})"
    return None


def quota(metric: str, project: str, location: str, base_url: str | None) -> float | None:
    """How much of a quota of Vertex AI a project has in a region.

    Args:
        metric: Its name, such as `aiplatform.googleapis.com/global_concurrent_tuning_jobs`.
        project: The project.
        location: The region; a limit without regions counts as well.
        base_url: Another address of the service that tells quotas (Service Usage); None: Google's.

    Returns:
        The limit; None where it is not told: there may be no such quota, no permission to read it, or no answer.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession
    from requests import RequestException, Session

    try:
        if base_url is None:
            session: Session = AuthorizedSession(credentials("backend"))  # type: ignore[no-untyped-call]
        else:
            session = Session()
        path = f"v1beta1/projects/{project}/services/aiplatform.googleapis.com/consumerQuotaMetrics"
        address = f"{(base_url or 'https://serviceusage.googleapis.com').rstrip('/')}/{path}/{quote(metric, safe='')}"
        answer = session.get(address, timeout=20)
        answer.raise_for_status()
        buckets = [
            bucket
            for limit in answer.json().get("consumerQuotaLimits", [])
            for bucket in limit.get("quotaBuckets", [])
            if bucket.get("dimensions", {}).get("region", location) == location
        ]
        # A bucket with the region's name counts before the one for all regions.
        buckets.sort(key=lambda bucket: "region" in bucket.get("dimensions", {}))
        return float(buckets[-1].get("effectiveLimit", 0)) if buckets else None
    except (UserError, GoogleAuthError, RequestException, AttributeError, TypeError, ValueError):
        return None
