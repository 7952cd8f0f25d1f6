"""Google Cloud Storage: files in a folder of a bucket, each stored once, under the digest of its content.

Two commands that store the same file at the same moment store it once, and an upload whose answer was lost is no
error: the object is looked at again.
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from silvertune.backends.google_cloud import LOG_IN, check_packages
from silvertune.errors import UserError, in_one_line
from silvertune.interfaces import CheckResult

if TYPE_CHECKING:
    from google.cloud import storage

TIMEOUT_S = 60.0
"""Seconds that one request waits for an answer; the library tries again for two minutes."""
MULTI_REGIONS = {"EU": "europe-", "US": "us-", "ASIA": "asia-"}
"""Name of a multi-region -> how its regions begin. Source: cloud.google.com/storage/docs/locations (read 2026-11)."""


@dataclass(frozen=True)
class CloudFolder:
    """A folder in a bucket. Nothing is asked before a method is called.

    Attributes:
        url: `gs://bucket` or `gs://bucket/folder`.
        setting: The configuration key that holds the URL, for messages.
        project: The project that requests are counted for; None: that of the credentials.

    Raises:
        UserError: The URL is none of Cloud Storage. Every method raises it as well where there are no credentials, no
            such bucket, no permission, or no answer.
    """

    url: str
    setting: str
    project: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+(/[^\s/]+)*/?", self.url):
            raise UserError(f"{self.setting}={self.url}: want gs://bucket or gs://bucket/folder")
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def under(self, folder: str) -> "CloudFolder":
        """A folder in this one."""
        return CloudFolder(f"{self.url}/{folder}", self.setting, self.project)

    def store(self, content: bytes | Path, name: str) -> str:
        """Store a file under the digest of its content, unless it is there.

        Args:
            content: The bytes, or the file that holds them.
            name: How the file is called; no folder.

        Returns:
            `gs://bucket/folder/<SHA-256 of the content>/<name>`.
        """
        path = f"{digest_of(content)}/{name}"
        self.create(content, path)
        return f"{self.url}/{path}"

    def create(self, content: bytes | Path, path: str) -> None:
        """Create an object that is not there yet. One that is there with the same content is left as it is.

        Args:
            content: The bytes, or the file that holds them.
            path: The object's, from this folder.

        Raises:
            UserError: There is an object with other content.
        """
        with self._answering():
            from google.api_core.exceptions import PreconditionFailed

            blob = self._bucket.blob(self._name(path))
            if not blob.exists(timeout=TIMEOUT_S):
                with suppress(PreconditionFailed):
                    # Only where nothing is there: another process may store it now, and the library sends a request
                    # again whose answer was lost.
                    if isinstance(content, Path):
                        blob.upload_from_filename(str(content), if_generation_match=0, timeout=TIMEOUT_S)
                    else:
                        blob.upload_from_string(content, if_generation_match=0, timeout=TIMEOUT_S)
            blob.reload(timeout=TIMEOUT_S)
            if blob.md5_hash != _md5(content):
                raise UserError(
                    f"{self.setting}: {self.url}/{path} has other content than its name says; somebody has changed it: "
                    "delete it, and run the same command again"
                )

    def read(self, path: str) -> bytes | None:
        """The content of an object, by its path from this folder; None where there is none."""
        with self._answering():
            from google.api_core.exceptions import NotFound

            try:
                content: bytes = self._bucket.blob(self._name(path)).download_as_bytes(timeout=TIMEOUT_S)
            except NotFound:
                self._look()  # there may be no bucket
                return None
            return content

    def download(self, path: str, file: Path) -> None:
        """Write an object's content to a file, whose folder is made.

        Raises:
            UserError: There is no such object, or the file can't be written.
        """
        with self._answering():
            from google.api_core.exceptions import NotFound

            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                self._bucket.blob(self._name(path)).download_to_filename(str(file), timeout=TIMEOUT_S)
            except NotFound:
                raise UserError(f"{self.setting}: there is no {self.url}/{path}") from None

    def paths(self) -> list[str]:
        """The objects in this folder and below, by their paths from it, in the order of the alphabet."""
        with self._answering():
            start = self._name("")
            blobs = self._client.list_blobs(self._bucket_name, prefix=start, timeout=TIMEOUT_S)
            return sorted(blob.name.removeprefix(start) for blob in blobs)

    def check_region(self, region: str) -> None:
        """Refuse a bucket that jobs in a region would read from afar. Whoever may not look at a bucket is let through.

        Args:
            region: Where jobs run, such as `europe-west4`.

        Raises:
            UserError: The bucket is in another region.
        """
        with self._answering():
            from google.api_core.exceptions import Forbidden

            try:
                bucket = self._client.get_bucket(self._bucket_name, timeout=TIMEOUT_S)
            except Forbidden:  # objects may be read and written without that permission
                return
            places = [place.lower() for place in (bucket.location, *(bucket.data_locations or ())) if place]
        continent = MULTI_REGIONS.get((bucket.location or "").upper())
        if places and region.lower() not in places and not (continent and region.lower().startswith(continent)):
            raise UserError(
                f"{self.setting}={self.url}: the bucket is in {places[0]}, and the jobs run in {region}; want a bucket "
                f"in {region}"
            )

    def probe(self, region: str) -> CheckResult:
        """For `mode=check`: whether the bucket can be read, and is in a region. Nothing is written."""
        try:
            self.check_region(region)
            self._look()
        except UserError as error:
            return CheckResult(f"{self.url} can be used", False, str(error))
        return CheckResult(f"{self.url} can be read, and is in {region} or around it", True)

    def _look(self) -> None:
        """Look whether the bucket can be listed."""
        with self._answering():
            next(iter(self._client.list_blobs(self._bucket_name, max_results=1, timeout=TIMEOUT_S)), None)

    @property
    def _bucket_name(self) -> str:
        return self.url.removeprefix("gs://").partition("/")[0]

    @property
    def _bucket(self) -> "storage.Bucket":
        return self._client.bucket(self._bucket_name)

    @property
    def _client(self) -> "storage.Client":
        return _client(self.project, os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST"))

    def _name(self, path: str) -> str:
        """An object's name in its bucket."""
        folder = self.url.removeprefix("gs://").partition("/")[2]
        return f"{folder}/{path}" if folder else path

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What Google or the library says, in one line."""
        where = f"{self.setting}={self.url}"
        check_packages(where, "google.cloud.storage")
        from google.api_core import exceptions
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

        try:
            yield
        except UserError:
            raise
        except DefaultCredentialsError:
            raise UserError(f"{where}: no Google credentials on this machine: {LOG_IN}") from None
        except GoogleAuthError as error:
            raise UserError(
                f"{where}: Google's credentials do not work ({in_one_line(error)[:200]}); log in anew: {LOG_IN}"
            ) from None
        except exceptions.NotFound:
            raise UserError(f"{where}: there is no bucket {self._bucket_name}") from None
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise UserError(
                f"{where}: these Google credentials may not do that there ({in_one_line(error)[:200]})"
            ) from None
        except Exception as error:  # the network's, the library's, the disk's
            raise UserError(
                f"{where}: {type(error).__name__} ({in_one_line(error)[:200]}); nothing is lost: the same command "
                "tries again"
            ) from error


@lru_cache(maxsize=8)
def _client(project: str | None, process: int, emulator: str | None) -> "storage.Client":
    """A client of this process: a forked one must not share its connections.

    Google's library takes STORAGE_EMULATOR_HOST by itself, and needs no credentials there.
    """
    from google.cloud import storage

    return storage.Client(project=project) if project else storage.Client()


def digest_of(content: bytes | Path) -> str:
    """SHA-256 of bytes, or of a file, as 64 hexadecimal digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _md5(content: bytes | Path) -> str:
    """The checksum that Cloud Storage keeps with each object that was uploaded in one piece, as it tells it."""
    if isinstance(content, bytes):
        checksum = hashlib.md5(content, usedforsecurity=False)
    else:
        with content.open("rb") as file:
            checksum = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return base64.b64encode(checksum.digest()).decode("ascii")
