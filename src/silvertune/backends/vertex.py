"""Managed supervised tuning of Gemini models on Vertex AI, one job a training set."""

import json
import os
import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from silvertune.backends import google_cloud, tuning_files
from silvertune.backends.cloud_storage import CloudFolder
from silvertune.backends.jobs import BusyError, JobStatus
from silvertune.backends.tuning_files import TuningLimits
from silvertune.errors import UserError, check_choice, check_number, either, in_one_line
from silvertune.interfaces import CheckResult, Estimate, Predictor, TrainingSet
from silvertune.llms import retired

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import TuningJob

LABEL = "silvertune-key"
"""The label of a job that holds the ledger's label of it."""
OPEN_MODELS = r"[/@]|llama|gemma|qwen|gpt-oss|mistral|deepseek"
"""What stands in the names of open models: Vertex AI writes them as `meta/llama3_1@llama-3.1-8b-instruct`."""
_KEY = "backend.service"
_GOES_ON = ("QUEUED", "PENDING", "RUNNING", "UPDATING", "CANCELLING")
_ENDS = {"SUCCEEDED": "succeeded", "FAILED": "failed", "EXPIRED": "failed", "CANCELLED": "cancelled"}
_USUAL_BYTES = 3.0
"""Of a token of English text or of tables, about."""


class Vertex:
    """Gemini's tuning on Vertex AI, as `silvertune.backends.jobs.JobService` has it.

    The examples of a training set are written as a JSONL file to Cloud Storage, once for each content. A job has the
    ledger's label, by which it is found again. Its tuned model stays at Google, at an endpoint that costs nothing while
    it is not asked.

    Args:
        project: Id of the Google Cloud project.
        location: The region where jobs run and tuned models are asked; the bucket is to be there too.
        storage: `gs://bucket/folder` for the files.
        usd_per_million_tokens: What tuning costs: dollars for a million tokens of the training file, in each epoch.
        price_as_of: The day on which somebody read that price, as 2026-11-29.
        bytes_per_token: For estimates, which the budget goes by. No text has more than one token a byte, so 1 is an
            upper bound; most texts have 3 and more, and a job that costs more than was set aside is said.
        tunable: The base models that can be tuned.
        limits: What Vertex AI takes.
        damaged_examples: What becomes of a job that dropped or cut examples: `error`, or `alarm`, which uses the tuned
            model all the same.
        quota_metric: The quota on tuning jobs at a time, for `mode=check`.
        base_url: Another address of the tuning service, `http://host:port` without TLS; None: Google's.
        quota_base_url: Another address of the service that tells quotas; None: Google's.
        timeout_s: For one request.

    Raises:
        UserError: A setting is out of range.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset(
        {
            "project", "location", "storage", "usd_per_million_tokens", "price_as_of", "bytes_per_token", "tunable",
            "limits", "damaged_examples", "quota_metric", "base_url", "quota_base_url", "timeout_s",
        }
    )  # fmt: skip

    def __init__(
        self,
        *,
        project: str,
        location: str,
        storage: str,
        usd_per_million_tokens: float,
        price_as_of: str,
        bytes_per_token: float,
        tunable: Sequence[str],
        limits: TuningLimits,
        damaged_examples: str,
        quota_metric: str,
        base_url: str | None,
        quota_base_url: str | None,
        timeout_s: float,
    ) -> None:
        google_cloud.check_place(_KEY, project, location)
        check_number(f"{_KEY}.usd_per_million_tokens", usd_per_million_tokens)
        check_number(f"{_KEY}.bytes_per_token", bytes_per_token, 1.0)
        check_number(f"{_KEY}.timeout_s", timeout_s, above=True)
        check_choice(f"{_KEY}.damaged_examples", damaged_examples, ("error", "alarm"))
        try:
            self.days = (date.today() - date.fromisoformat(str(price_as_of))).days
        except ValueError:
            raise UserError(f"{_KEY}.price_as_of={price_as_of}: want a day such as 2026-11-29") from None
        self.project, self.location, self.usd, self.as_of = project, location, usd_per_million_tokens, price_as_of
        self.bytes_per_token, self.tunable, self.limits = bytes_per_token, list(tunable), limits
        self.damaged_examples, self.quota_metric, self.timeout_s = damaged_examples, quota_metric, timeout_s
        self.base_url, self.quota_base_url = base_url, quota_base_url
        self.folder = CloudFolder(storage, f"{_KEY}.storage", str(project))
        self._requests: dict[str, TuningJob] = {}

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def _client(self) -> Any:
        return _client(self.location, self.base_url, os.getpid())

    def check(self, model: Any) -> None:
        """Look, offline, whether the model is one that Vertex AI tunes.

        Raises:
            UserError: It is not, it is an open model, its base model has ended, or a package is missing.
        """
        if not callable(getattr(model, "examples", None)) or not callable(getattr(model, "predictor", None)):
            raise UserError(
                f"backend=vertex can't tune model {type(model).__name__}: it writes no examples for a Gemini model; "
                "want model=gemini_tuned, or backend=local"
            )
        if re.search(OPEN_MODELS, model.base_model, re.IGNORECASE):
            raise UserError(
                f"model.base_model={model.base_model}: is an open model; Vertex AI asks a tuned one on a machine "
                "that bills by the hour until somebody ends it: want backend=vertex_job with model=causal_lora, or "
                f"model.base_model={either(self.tunable)}"
            )
        retired.refuse("vertex", model.base_model, "model.base_model")
        if re.sub(r"-\d{3}$", "", model.base_model) not in self.tunable:
            raise UserError(
                f"model.base_model={model.base_model}: Vertex AI does not tune it, as far as {_KEY}.tunable says; want "
                f"{either(self.tunable)}"
            )
        google_cloud.check_packages(
            "backend=vertex", "google.cloud.aiplatform_v1", "google.cloud.storage", "google.genai"
        )

    def probe(self, model: Any) -> list[CheckResult]:
        """Credentials and permissions, region and model, bucket, quota. Nothing is made."""
        try:
            self.check(model)
            running = [job for job in self._listed("") if _state(job) in _GOES_ON]
        except Exception as error:
            words = google_cloud.what_to_mend(error, _KEY) or in_one_line(error)
            return [CheckResult(f"Vertex AI in {self.location}", False, words)]
        what = f"Vertex AI in {self.location} answers, and {model.base_model} can be tuned; {len(running)} job(s) run"
        return [
            CheckResult(what, True),
            *retired.check("vertex", model.base_model),
            self.folder.probe(self.location),
            self._quota(),
        ]

    def _quota(self) -> CheckResult:
        """How many jobs may run at a time, where Google tells."""
        limit = google_cloud.quota(self.quota_metric, str(self.project), self.location, self.quota_base_url)
        if limit is None:
            return CheckResult("quota of tuning jobs: not told here; the first submission will tell", True)
        mend = f"ask for more of {self.quota_metric} in {self.location}, or take another {_KEY}.location"
        return CheckResult(f"quota: {limit:g} tuning job(s) at a time", limit > 0, "" if limit > 0 else mend)

    def estimate(self, model: Any, sets: Sequence[TrainingSet]) -> Estimate:
        """What tuning on these sets costs at most: tokens of the examples, times epochs, times the price."""
        size = sum(model.bytes_at_most(training_set) for training_set in sets)
        tokens = size / self.bytes_per_token * model.epochs
        share = self.bytes_per_token / _USUAL_BYTES
        usual = f"; at {_USUAL_BYTES:g} bytes a token, which is usual, it is {share:.0%} of that"
        notes = [
            f"tuning {model.base_model}: ${self.usd:g} for a million tokens in each of {model.epochs} epoch(s), read "
            f"on {self.as_of}, {max(self.days, 0)} day(s) ago; {self.bytes_per_token:g} byte(s) count as a token"
            f"{usual if self.bytes_per_token < _USUAL_BYTES else ''}"
        ]
        if sets and model.llm.price.input is not None:
            tokens_in = 1000 * model.tokens_of_a_question(sets[0].train)
            usd = model.repeats * model.llm.price.of(tokens_in, 1000 * model.llm.max_tokens)
            notes.append(
                f"asking the tuned models is not in it: about ${usd:.1g} for 1,000 texts; {model.llm.price.age()}"
            )
        return Estimate(calls=float(len(sets)), tokens=tokens, dollars=tokens * self.usd / 1e6, notes=tuple(notes))

    def content(self, model: Any, training_set: TrainingSet) -> str:
        """The base model, the settings of the job and the digests of its files; the files are held to the limits."""
        files = self._files(model, training_set)
        settings = (model.base_model, model.epochs, model.adapter_size, model.learning_rate_multiplier)
        return json.dumps([*settings, *(tuning_files.digest(lines) for lines in files)])

    def stage(self, model: Any, training_set: TrainingSet, label: str) -> None:
        """Store the files of the training set; see `silvertune.backends.jobs.JobServiceTraits`."""
        self._requests[label] = self._job(model, training_set, label)

    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        """Make the job that was staged, with one request; see `silvertune.backends.jobs.JobService`."""
        from google.api_core.exceptions import ResourceExhausted

        job = self._requests.pop(label)
        try:
            created = self._client.create_tuning_job(
                parent=self._parent, tuning_job=job, retry=None, timeout=self.timeout_s
            )
        except Exception as error:
            words = google_cloud.what_to_mend(error, _KEY)
            if words is None:
                raise
            if isinstance(error, ResourceExhausted):
                raise BusyError(words) from error
            raise UserError(words) from error
        return str(created.name)

    def _job(self, model: Any, training_set: TrainingSet, label: str) -> "TuningJob":
        from google.cloud.aiplatform_v1 import types

        training, validation = self._files(model, training_set)
        self.folder.check_region(self.location)
        adapter = f"ADAPTER_SIZE_{_NUMERALS[model.adapter_size]}"
        specification: dict[str, Any] = {
            "training_dataset_uri": self.folder.store(b"".join(training), "training.jsonl"),
            "hyper_parameters": {
                "epoch_count": model.epochs,
                "adapter_size": adapter,
                "learning_rate_multiplier": model.learning_rate_multiplier,
            },
            "export_last_checkpoint_only": True,
        }
        if validation:
            specification["validation_dataset_uri"] = self.folder.store(b"".join(validation), "validation.jsonl")
        return types.TuningJob(
            base_model=model.base_model,
            tuned_model_display_name=f"silvertune-{label}",
            labels={LABEL: label},
            supervised_tuning_spec=specification,
        )

    def _files(self, model: Any, training_set: TrainingSet) -> tuple[list[bytes], list[bytes]]:
        """The lines of both files, held to the limits."""
        training, validation = model.examples(training_set)
        if not training:
            raise UserError("model.views: no item of the training set has a text; want a view that the items have")
        limits, size = self.limits, self.bytes_per_token
        limits.check("the training file", training, most="examples", bytes_per_token=size)
        limits.check("the validation file", validation, most="validation_examples", bytes_per_token=size)
        return training, validation

    def find(self, label: str) -> str | None:
        """The name of the job with the label; None where there is none. Raises UserError where there are two."""
        names = [str(job.name) for job in self._listed(label) if job.labels.get(LABEL) == label]
        if len(names) > 1:
            raise UserError(f"backend: two tuning jobs have the label {LABEL}={label}: {', '.join(names)}; cancel one")
        return names[0] if names else None

    def _listed(self, label: str) -> "list[TuningJob]":
        """The jobs with a label, and perhaps others: whether the service filters by labels is nowhere promised."""
        from google.api_core.exceptions import InvalidArgument

        request = {"parent": self._parent, "page_size": 100}
        by_label = {**request, "filter": f'labels.{LABEL}="{label}"'} if label else request
        try:
            return list(self._asked("list_tuning_jobs", request=by_label))
        except InvalidArgument:
            return list(self._asked("list_tuning_jobs", request=request))

    def _asked(self, method: str, **arguments: Any) -> Any:
        """One call that changes nothing. Raises UserError where asking again will not help."""
        from google.api_core.exceptions import InvalidArgument, ResourceExhausted

        try:
            return getattr(self._client, method)(**arguments, retry=None, timeout=self.timeout_s)
        except (InvalidArgument, ResourceExhausted):
            raise
        except Exception as error:
            if (words := google_cloud.what_to_mend(error, _KEY)) is not None:
                raise UserError(words) from error
            raise

    def status(self, job: str) -> JobStatus:
        """How the job is; what it cost, where the service tells its tokens."""
        answer = self._asked("get_tuning_job", name=job)
        state, words = _state(answer), _words(answer)
        if state in _GOES_ON:
            return JobStatus("running", message=words)
        tokens = _statistics(answer).total_billable_token_count
        epochs = answer.supervised_tuning_spec.hyper_parameters.epoch_count
        cost = tokens * max(epochs, 1) * self.usd / 1e6 if tokens else None
        return JobStatus(_ENDS.get(state, "undecided"), cost, words)  # type: ignore[arg-type]

    def collect(self, job: str, model: Any, training_set: TrainingSet) -> Predictor:
        """What asks the tuned model.

        Raises:
            UserError: The job dropped or cut examples, or has no endpoint.
        """
        answer = self._asked("get_tuning_job", name=job)
        statistics, alarms = _statistics(answer), []
        if damage := _damage(statistics):
            if self.damaged_examples == "error":
                raise UserError(
                    f"backend: tuning job {job} {damage}; it is paid for: {_KEY}.damaged_examples=alarm uses its model "
                    "all the same, and other data or a lower model.max_item_tokens make a new one"
                )
            alarms.append(f"tuning job {job} {damage}")
        if not answer.tuned_model.endpoint:
            raise UserError(f"backend: tuning job {job} has succeeded and tells no endpoint of its model")
        epochs = max(answer.supervised_tuning_spec.hyper_parameters.epoch_count, 1)
        figures = {
            "billed_tokens": float(statistics.total_billable_token_count * epochs),
            "examples": float(statistics.tuning_dataset_example_count),
            "steps": float(statistics.tuning_step_count),
            "dropped_examples": float(len(statistics.dropped_example_reasons)),
            "truncated_examples": float(statistics.total_truncated_example_count),
        }
        predictor: Predictor = model.predictor(
            answer.tuned_model.endpoint, model.views_of(training_set), figures=figures, alarms=alarms
        )
        return predictor

    def cancel(self, job: str) -> None:
        """Ask the service to end the job."""
        self._asked("cancel_tuning_job", name=job)


_NUMERALS = {1: "ONE", 2: "TWO", 4: "FOUR", 8: "EIGHT", 16: "SIXTEEN"}


@lru_cache(maxsize=8)
def _client(location: str, base_url: str | None, process: int) -> Any:
    """A client of this process: a forked one must not share its connections."""
    from google.cloud.aiplatform_v1.services.gen_ai_tuning_service import GenAiTuningServiceClient

    transport = GenAiTuningServiceClient.get_transport_class("grpc")
    return google_cloud.client(GenAiTuningServiceClient, transport, _KEY, location, base_url)


def _state(job: "TuningJob") -> str:
    """The state's name without its prefix; the number of one that this version of Google's package has no name for."""
    return str(getattr(job.state, "name", job.state)).removeprefix("JOB_STATE_")


def _words(job: "TuningJob") -> str:
    return f"{_state(job)}: {job.error.message}" if job.error.message else _state(job)


def _statistics(job: "TuningJob") -> Any:
    return job.tuning_data_stats.supervised_tuning_data_stats


def _damage(statistics: Any) -> str:
    """What became of examples that were not learned from whole; empty where all were."""
    dropped, cut = list(statistics.dropped_example_reasons), statistics.total_truncated_example_count
    parts = []
    if dropped:
        parts.append(f"dropped {len(dropped)} example(s) ({', '.join(sorted(set(dropped)))[:200]})")
    if cut:
        places = ", ".join(map(str, list(statistics.truncated_example_indices)[:5]))
        parts.append(f"cut {cut} example(s){f' (numbers {places})' if places else ''}")
    return " and ".join(parts)
