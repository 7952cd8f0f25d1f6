"""Tuning by the local backend in a custom job of Vertex AI: on a machine with a GPU, for as long as tuning takes.

A job's code, pinned packages, configuration and training set are stored in Cloud Storage under the digests of their
contents. Its container (`silvertune.study.job_container`) writes log, model and result to a folder of its own.
"""

import functools
import inspect
import json
import os
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from silvertune.backends import container_boot, google_cloud, job_files, wheel
from silvertune.backends.cloud_storage import CloudFolder
from silvertune.backends.collected import collect
from silvertune.backends.job_files import ModelFiles
from silvertune.backends.jobs import BusyError, JobStatus, RefusedError
from silvertune.datasets.notices import say
from silvertune.errors import UserError, check_number, check_whole_number, in_one_line
from silvertune.interfaces import CheckResult, Estimate, Predictor, TrainingSet

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import CustomJob, JobServiceClient

LABEL = "silvertune-key"
"""The label by which a job is found again."""
TIMEOUT_S = 60.0
"""Seconds that one call of Vertex AI waits for an answer. None is made again by itself."""
STATES = {
    "JOB_STATE_QUEUED": "running",
    "JOB_STATE_PENDING": "running",
    "JOB_STATE_RUNNING": "running",
    "JOB_STATE_UPDATING": "running",
    "JOB_STATE_CANCELLING": "running",
    "JOB_STATE_SUCCEEDED": "succeeded",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "failed",
    "JOB_STATE_CANCELLED": "cancelled",
}
"""Vertex AI's states that go on or have ended; any other is undecided."""


class VertexJob:
    """Custom jobs of Vertex AI, each of which tunes the model on one training set.

    Args:
        model_config: The run's configuration (filled by the run).
        cache: The run's folder for what is expensive to compute (filled by the run).
        project: Id of the Google Cloud project.
        location: Region of the jobs, such as `europe-west4`; one with quota for the accelerator.
        storage: `gs://bucket/folder` in that region, for what jobs are sent and what they leave.
        image: Container image by its digest, `.../name@sha256:...`, with the Python version of this machine and pip.
        machine_type: Such as `g2-standard-8`.
        accelerator_type: Such as `NVIDIA_L4`; None: no GPU.
        accelerator_count: GPUs of the machine.
        disk_gb: Size of the machine's disk, from 100.
        spot: Take a machine that Google may take away again, at a lower price.
        restarts: How often a job is started again by Vertex AI whose machine was taken away.
        timeout_s: Seconds after which a job is ended, all its starts together.
        max_wait_s: Seconds that a job waits for its machine at most, where Vertex AI keeps to it.
        usd_per_hour: Dollars that an hour of the machine with its accelerators costs.
        price_as_of: The day on which that price was read, for `mode=plan`; None: not said.
        service_account: What the container runs as; None: Vertex AI's own agent. It reads and writes `storage`.
        base_url: Another address of the service; None: Google's.
        quota_base_url: Another address of the service that tells quotas; None: Google's.

    Raises:
        UserError: A setting is out of range.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset(
        {
            "project", "location", "storage", "machine_type", "accelerator_type", "accelerator_count", "disk_gb",
            "spot", "restarts", "timeout_s", "max_wait_s", "usd_per_hour", "price_as_of", "service_account", "base_url",
            "quota_base_url",
        }
    )  # fmt: skip
    """Whoever pays, and where: what is tuned is decided by the rows, the model and the image."""

    def __init__(
        self,
        model_config: Mapping[str, Any],
        cache: Path,
        *,
        project: str,
        location: str,
        storage: str,
        image: str,
        machine_type: str,
        accelerator_type: str | None,
        accelerator_count: int,
        disk_gb: int,
        spot: bool,
        restarts: int,
        timeout_s: float,
        max_wait_s: float,
        usd_per_hour: float,
        price_as_of: str | None,
        service_account: str | None,
        base_url: str | None,
        quota_base_url: str | None,
    ) -> None:
        setting = "backend.service"
        google_cloud.check_place(setting, project, location)
        if not re.fullmatch(r"[^\s@]+@sha256:[0-9a-f]{64}", str(image)):
            raise UserError(
                f"{setting}.image={image}: want an image by its digest, such as python@sha256:<64 digits>; a tag may "
                "name another image tomorrow"
            )
        if not re.fullmatch(r"[a-z0-9]+-[a-z0-9-]+", str(machine_type)):
            raise UserError(f"{setting}.machine_type={machine_type}: want a machine type, such as g2-standard-8")
        if accelerator_type is not None and not re.fullmatch(r"[A-Z0-9_]+", str(accelerator_type)):
            raise UserError(f"{setting}.accelerator_type={accelerator_type}: want such as NVIDIA_L4, or null")
        check_whole_number(f"{setting}.accelerator_count", accelerator_count, 1)
        check_whole_number(f"{setting}.disk_gb", disk_gb, 100)
        check_whole_number(f"{setting}.restarts", restarts, 0)
        check_number(f"{setting}.timeout_s", timeout_s, 60)
        check_number(f"{setting}.max_wait_s", max_wait_s, above=True)
        check_number(f"{setting}.usd_per_hour", usd_per_hour)
        self.model_config, self.cache, self.setting = model_config, cache, setting
        self.project, self.location = project, location
        self.base_url, self.quota_base_url = base_url, quota_base_url
        self.folder = CloudFolder(storage, f"{setting}.storage", project)
        self.image, self.machine_type, self.disk_gb, self.spot = image, machine_type, disk_gb, spot
        self.accelerator_type, self.accelerator_count = accelerator_type, accelerator_count
        self.restarts, self.timeout_s, self.max_wait_s = restarts, timeout_s, max_wait_s
        self.usd_per_hour, self.price_as_of, self.service_account = usd_per_hour, price_as_of, service_account
        self._requests: dict[str, CustomJob] = {}

    # ------------------------------------------------------------------------------------- before anything is paid

    def check(self, model: Any) -> None:
        """Look, offline, whether the model can be tuned by the local backend. Raises UserError if not."""
        if not callable(getattr(model, "fit", None)):
            raise UserError(
                f"backend=vertex_job can't tune model {type(model).__name__}: it has no fit(train, validation, seed); "
                "choose a model that backend=local can tune"
            )
        google_cloud.check_packages(self.setting, "google.cloud.aiplatform_v1", "google.cloud.storage")

    def probe(self, model: Any) -> list[CheckResult]:
        """Credentials, the service, the bucket and its region, and whether this installation can be sent."""
        results = [self.folder.probe(self.location)]
        for what, looks in (
            (f"Vertex AI of {self.project} answers in {self.location}", lambda: self.find("none")),
            (f"accelerator {self.accelerator_type}", self._accelerator),
            ("silvertune and its packages can be sent", lambda: self._code),
        ):
            try:
                looks()
                results.append(CheckResult(what, True))
            except Exception as error:
                results.append(CheckResult(what, False, self._in_words(error)))
        return [*results, *self._quota()]

    def _quota(self) -> list[CheckResult]:
        """How many of the accelerators may be used at a time, where Google tells."""
        if self.accelerator_type is None:
            return []
        gpus = f"{'preemptible_' * self.spot}{self.accelerator_type.lower()}_gpus"
        metric = f"aiplatform.googleapis.com/custom_model_training_{gpus}"
        limit = google_cloud.quota(metric, str(self.project), self.location, self.quota_base_url)
        if limit is None:
            return [CheckResult(f"quota {metric}: not told here; the first submission will tell", True)]
        mend = f"ask for more of {metric} in {self.location}, or take another {self.setting}.location"
        enough = limit >= self.accelerator_count
        return [CheckResult(f"quota: {limit:g} {self.accelerator_type} at a time", enough, "" if enough else mend)]

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate:
        """What the jobs cost if each of them takes all its time."""
        day = f", as read on {self.price_as_of}" if self.price_as_of else ""
        price = f"vertex_job: ${self.usd_per_hour:g} an hour of {self.machine_type}{day}, at most {self.timeout_s:g} s"
        dollars = len(sets) * self.timeout_s / 3600 * self.usd_per_hour
        return Estimate(calls=float(len(sets)), dollars=dollars, notes=(price,))

    # --------------------------------------------------------------------------------------------------- the verbs

    def stage(self, model: Any, training_set: TrainingSet, label: str) -> None:
        """Store what the job needs: the code, the packages' pins, the model's files and the training set."""
        # A folder of its own: nothing of another job, or of an earlier version, is there.
        output = self.folder.under(f"jobs/{label}/{uuid.uuid4().hex[:8]}").url
        self._requests[label] = self._job(self._store(training_set, output), output, label)

    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        """Make the job that was staged, with one request."""
        from google.api_core.exceptions import TooManyRequests

        job = self._requests.pop(label)
        try:
            created = self._client().create_custom_job(
                parent=self._parent, custom_job=job, timeout=TIMEOUT_S, retry=None
            )
        except Exception as error:
            if (words := google_cloud.what_to_mend(error, self.setting)) is None:
                raise
            raise (BusyError if isinstance(error, TooManyRequests) else RefusedError)(words) from error
        return str(created.name)

    def find(self, label: str) -> str | None:
        """The name of the job with the label. What the service lists is looked at again: it may ignore the filter."""
        request = {"parent": self._parent, "filter": f'labels.{LABEL}="{label}"'}
        try:
            listed = list(self._client().list_custom_jobs(request=request, timeout=TIMEOUT_S, retry=None))
        except Exception as error:
            self._raise(error)
        names = [str(job.name) for job in listed if job.labels.get(LABEL) == label]
        if len(names) > 1:
            raise UserError(f"{self.setting}: {len(names)} jobs have the label {label}: {', '.join(names)}; cancel all "
                            "but one, and remove the label of those")  # fmt: skip
        return names[0] if names else None

    def status(self, job: str) -> JobStatus:
        """How the job is, what it has cost by its times, and why it failed."""
        custom_job = self._get(job)
        name = getattr(custom_job.state, "name", str(custom_job.state))
        state: Any = STATES.get(name, "undecided")
        message = name if state == "undecided" or not custom_job.error.message else str(custom_job.error.message)
        if state == "failed" and custom_job.start_time:
            message = f"{self._reason(custom_job)} ({message})"
        return JobStatus(state, None if state == "running" else self._cost_usd(custom_job), message)

    def collect(self, job: str, model: Any, training_set: TrainingSet) -> Predictor:
        """The predictor in the job's folder, with what was measured and printed while it was tuned."""
        predictor = collect(self._output(self._get(job)), self._model_files.paths, self.cache, job)
        for line in predictor.log.splitlines():
            if line.startswith("silvertune: "):
                say(line.removeprefix("silvertune: "))
        return predictor

    def cancel(self, job: str) -> None:
        """Ask Vertex AI to end the job."""
        try:
            self._client().cancel_custom_job(name=job, timeout=TIMEOUT_S, retry=None)
        except Exception as error:
            self._raise(error)

    # -------------------------------------------------------------------------------------------- what a job is made of

    @functools.cached_property
    def _model_files(self) -> ModelFiles:
        return ModelFiles.of(self.model_config["model"])

    def _store(self, training_set: TrainingSet, output: str) -> str:
        """Store what the job needs; the URL of the file that names it all."""
        self.folder.check_region(self.location)
        wheel_url, requirements_url = self._code_urls
        content = {
            "key": training_set.key,
            "settings": training_set.settings,
            "seed": training_set.seed,
            "python": "{}.{}".format(*sys.version_info[:2]),
            "wheel": wheel_url,
            "requirements": requirements_url,
            "config": {"model": self._model_files.config, "task": self.model_config["task"]},
            "model_files": self._model_files.store(self.folder.under("files")),
            "train": self._store_rows(training_set.train, "train.json"),
            "validation": self._store_rows(training_set.validation, "validation.json"),
            "restarts": self.restarts,
            "output": output,
        }
        return self.folder.under("files").store(json.dumps(content, indent=1).encode("ascii"), "job.json")

    def _store_rows(self, rows: Any, name: str) -> str:
        return self.folder.under("files").store(job_files.encoded(rows), name)

    @functools.cached_property
    def _code(self) -> tuple[bytes, str]:
        """A wheel of the code, and pins of the packages."""
        model = self.model_config["model"]
        modules, distributions = job_files.code_of_users(model)
        distributions += ["google-cloud-storage", *job_files.packages_of(model)]
        return wheel.build(modules), wheel.requirements(distributions)

    @functools.cached_property
    def _code_urls(self) -> tuple[str, str]:
        code, requirements = self._code
        files = self.folder.under("files")
        return files.store(code, wheel.name()), files.store(requirements.encode("ascii"), "requirements.txt")

    def _job(self, url: str, output: str, label: str) -> "CustomJob":
        """The request that makes the job of the file at a URL."""
        from google.cloud.aiplatform_v1 import types

        machine: dict[str, Any] = {"machine_type": self.machine_type}
        if (accelerator := self._accelerator()) is not None:
            machine |= {"accelerator_type": accelerator, "accelerator_count": self.accelerator_count}
        scheduling = types.Scheduling(
            timeout={"seconds": int(self.timeout_s)},
            max_wait_duration={"seconds": int(self.max_wait_s)},
            strategy=types.Scheduling.Strategy.SPOT if self.spot else types.Scheduling.Strategy.STANDARD,
            disable_retries=self.restarts == 0,
            restart_job_on_worker_restart=self.restarts > 0,
        )
        pool = types.WorkerPoolSpec(
            machine_spec=machine,
            replica_count=1,
            disk_spec={"boot_disk_type": "pd-ssd", "boot_disk_size_gb": self.disk_gb},
            container_spec={
                "image_uri": self.image,
                "command": ["python", "-c", inspect.getsource(container_boot)],
                "args": [url],
            },
        )
        spec = types.CustomJobSpec(
            scheduling=scheduling,
            worker_pool_specs=[pool],
            base_output_directory={"output_uri_prefix": output},
            service_account=self.service_account or "",
        )
        return types.CustomJob(display_name=f"silvertune {label}", labels={LABEL: label}, job_spec=spec)

    def _accelerator(self) -> Any:
        """Google's number for the accelerator; None where there is none."""
        from google.cloud.aiplatform_v1 import types

        accelerators: Any = types.AcceleratorType
        if self.accelerator_type is None:
            return None
        try:
            return accelerators[self.accelerator_type]
        except KeyError:
            names = [entry.name for entry in accelerators if entry.name.startswith("NVIDIA")]
            raise UserError(
                f"{self.setting}.accelerator_type={self.accelerator_type}: Vertex AI has no such accelerator; there is "
                f"{', '.join(names)}"
            ) from None

    # ------------------------------------------------------------------------------------------------- what Google says

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    def _client(self) -> "JobServiceClient":
        return _client(self.setting, self.location, self.base_url, os.getpid())

    def _get(self, job: str) -> "CustomJob":
        try:
            return self._client().get_custom_job(name=job, timeout=TIMEOUT_S, retry=None)
        except Exception as error:
            self._raise(error)

    def _raise(self, error: Exception) -> NoReturn:
        """Raise what only a person can mend as a UserError, and anything else, such as too many questions, as it is."""
        from google.api_core.exceptions import TooManyRequests

        words = google_cloud.what_to_mend(error, self.setting)
        if words is None or isinstance(error, TooManyRequests):
            raise error
        raise UserError(words) from error

    def _in_words(self, error: Exception) -> str:
        return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {in_one_line(error)[:300]}"

    def _output(self, job: "CustomJob") -> CloudFolder:
        return CloudFolder(
            job.job_spec.base_output_directory.output_uri_prefix, f"{self.setting}.storage", self.project
        )

    def _cost_usd(self, job: "CustomJob") -> float:
        """By the time between start and end. A job that never started has cost nothing."""
        if not job.start_time or not job.end_time:
            return 0.0 if not job.start_time else self.timeout_s / 3600 * self.usd_per_hour
        seconds: float = (job.end_time - job.start_time).total_seconds()
        return max(0.0, seconds) / 3600 * self.usd_per_hour

    def _reason(self, job: "CustomJob") -> str:
        """Why the container failed, in its own words, or where to look if it has left none."""
        with suppress(UserError):
            output = self._output(job)
            for path in reversed(output.paths()):
                if path == "not_started.json" or path.startswith("failed-"):
                    return str(json.loads(output.read(path) or b"{}").get("message"))
        return f"the container left no reason; its log: gcloud ai custom-jobs stream-logs {job.name}"


@functools.lru_cache(maxsize=8)
def _client(setting: str, location: str, base_url: str | None, process: int) -> "JobServiceClient":
    """A client of this process: a forked one must not share its connections."""
    google_cloud.check_packages(setting, "google.cloud.aiplatform_v1")
    from google.cloud.aiplatform_v1.services.job_service import JobServiceClient
    from google.cloud.aiplatform_v1.services.job_service.transports.grpc import JobServiceGrpcTransport

    client: JobServiceClient = google_cloud.client(
        JobServiceClient, JobServiceGrpcTransport, setting, location, base_url
    )
    return client
