"""What a job's container runs first, with nothing but Python: it installs silvertune, and starts the job.

The source of this file is the container's command, so that any image with the right Python will do. Google's own
metadata server gives a token for Cloud Storage.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

STORAGE = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
TOKEN = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"


def answer(address: str, content: "bytes | None" = None) -> bytes:
    """What Cloud Storage answers to a request, made again where the network or the service fails for a moment."""
    pauses_s = [1, 2, 4, 8, 16]
    while True:
        try:
            return first_answer(address, content)
        except (OSError, http.client.HTTPException) as error:
            code = getattr(error, "code", 503)
            if not pauses_s or not (code >= 500 or code in (408, 429)):
                raise OSError(f"{address}: {error}") from error
        time.sleep(pauses_s.pop(0))


def first_answer(address: str, content: "bytes | None") -> bytes:
    """What Cloud Storage answers at once, with the rights of the machine's service account."""
    headers = {"Content-Type": "application/json"}
    if "STORAGE_EMULATOR_HOST" not in os.environ:
        asking = urllib.request.Request(TOKEN, headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(asking, timeout=60) as response:
            headers["Authorization"] = "Bearer " + json.load(response)["access_token"]
    with urllib.request.urlopen(urllib.request.Request(address, content, headers), timeout=600) as response:
        received: bytes = response.read()
        return received


def read(url: str) -> bytes:
    """The object at gs://bucket/name."""
    bucket, name = url[len("gs://") :].split("/", 1)
    return answer("{}/storage/v1/b/{}/o/{}?alt=media".format(STORAGE, bucket, urllib.parse.quote(name, safe="")))


def write(url: str, content: bytes) -> None:
    """Write the object at gs://bucket/name."""
    bucket, name = url[len("gs://") :].split("/", 1)
    name = urllib.parse.quote(name, safe="")
    answer(f"{STORAGE}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", content)


def install(job: "dict[str, str]") -> None:
    """Install the pinned packages, and silvertune as it is on the machine that sent the job. Raises OSError."""
    here = "{}.{}".format(*sys.version_info[:2])
    if here != job["python"]:
        raise OSError("the image has Python {}, and silvertune was sent from Python {}".format(here, job["python"]))
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("requirements", ["-r"]), ("wheel", ["--no-deps"])):
            file = os.path.join(folder, job[name].rsplit("/", 1)[1])
            with open(file, "wb") as content:
                content.write(read(job[name]))
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, file]
            done = subprocess.run(command, stderr=subprocess.PIPE)
            if done.returncode != 0:
                words = done.stderr.decode("utf-8", "replace").strip() or "no reason given"
                sys.stderr.write(words + "\n")
                raise OSError(f"pip can't install the {name} ({words.splitlines()[-1][:300]})")


def main() -> None:
    """Install, and become the job's process."""
    url = sys.argv[1]
    job = json.loads(read(url).decode("ascii"))
    try:
        install(job)
    except OSError as error:
        write(job["output"] + "/not_started.json", json.dumps({"message": str(error)}).encode("ascii"))
        sys.exit("silvertune: " + str(error))
    os.execv(sys.executable, [sys.executable, "-m", "silvertune.study.job_container", url])


if __name__ == "__main__":
    main()
