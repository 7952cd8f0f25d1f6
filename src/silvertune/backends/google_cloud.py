"""Google Cloud as backends meet it: credentials, clients, and what its errors mean, each in one line."""

import importlib.util
import re
from typing import TYPE_CHECKING, Any

from silvertune.errors import UserError, in_one_line

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

    words = in_one_line(error)[:300]
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
