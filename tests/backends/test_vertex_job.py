"""Tuning in custom jobs of Vertex AI: equal to tuning here, submitted once, found again, and told in one line."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from tests import fake_storage, made, tiny, tiny_causal, vertex_jobs
from tests.vertex_jobs import STATE, Jobs

from silvertune import composition
from silvertune.backends import Local, Remote, VertexJob, google_cloud
from silvertune.backends.ledger import Ledger
from silvertune.errors import UserError
from silvertune.interfaces import PredictorTraits, TrainingSet

TFIDF = {
    "_target_": "silvertune.models.TfidfLogreg", "views": None, "token_pattern": r"\S+", "ngram_max": 1, "min_df": 1,
    "max_features": 500, "C": 1.0, "class_weight": None, "max_iter": 200,
}  # fmt: skip
TASK = {"name": "soe", "classes": ["other", "soe"], "positive": "soe"}


class Place:
    """A bucket, a service and a ledger."""

    def __init__(self, folder: Path, bucket: str, stack: ExitStack) -> None:
        self.folder, self.bucket, self.stack = folder, bucket, stack
        self.serve()

    def serve(self, container: str = "forked") -> None:
        self.jobs = Jobs(self.folder / f"service-{container}", container)
        self.base_url = self.stack.enter_context(vertex_jobs.serving(self.jobs))

    def service(self, model: Any = None, task: Any = None, **settings: Any) -> VertexJob:
        config = {"model": model or TFIDF, "task": task or TASK}
        return VertexJob(config, self.folder / "cache", **vertex_jobs.settings(self.bucket, self.base_url, **settings))

    def backend(self, model: Any = None, task: Any = None, **settings: Any) -> Remote:
        ledger = Ledger(f"sqlite:///{self.folder / 'ledger.sqlite'}", budget_usd=None, lease_s=60)
        return Remote(self.service(model, task, **settings), ledger, poll_s=0.1, deadline_s=60)


@pytest.fixture
def place(tmp_path: Path, bucket: str) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, bucket, stack)


def training_sets(number: int = 1, settings: str = "tfidf") -> list[TrainingSet]:
    train = made.items(24).assign(label=made.gold(24), weight=1.0)
    return [TrainingSet(train.iloc[4 + k :], train.iloc[:4], seed=k, settings=settings) for k in range(number)]


def model_of(config: dict[str, Any], folder: Path, task: Any = None) -> Any:
    return composition.model_of({"model": config, "task": task or TASK}, folder / "local-cache")


def saved_bytes(predictor: Any, folder: Path) -> dict[str, bytes]:
    predictor.save(folder)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def numbers_of(pipelines: dict[str, Any]) -> dict[str, Any]:
    """All that decides what TF-IDF and logistic regression predict."""
    numbers: dict[str, Any] = {}
    for view, (vectorizer, regression) in (
        (view, pipeline.named_steps.values()) for view, pipeline in pipelines.items()
    ):
        arrays = (vectorizer.idf_, regression.coef_, regression.intercept_)
        numbers[view] = vectorizer.vocabulary_, list(regression.classes_), [array.tobytes() for array in arrays]
    return numbers


# --------------------------------------------------------------------------------------------------- equal to local


def test_a_job_gives_what_tuning_here_gives_byte_for_byte(place: Place, tmp_path: Path) -> None:
    place.serve("process")  # the container's own command, with nothing but Python at first
    model, (training_set,) = model_of(TFIDF, tmp_path), training_sets()
    (there,) = place.backend().tune(model, [training_set])
    (here,) = Local().tune(model, [training_set])
    pd.testing.assert_frame_equal(
        there.predictor.predict_proba(made.items(24)), here.predictor.predict_proba(made.items(24)), check_exact=True
    )
    files = [saved_bytes(tuned.predictor, tmp_path / name) for tuned, name in ((there, "there"), (here, "here"))]
    assert files[0].keys() == files[1].keys()
    assert files[0]["silvertune.json"] == files[1]["silvertune.json"]
    # A pickle differs by which equal strings were one object; all numbers and words in it are the same.
    numbers = [numbers_of(joblib.load(tmp_path / name / "pipelines.joblib")) for name in ("there", "here")]
    assert numbers[0] == numbers[1]
    assert tuple(there.predictor.classes) == tuple(here.predictor.classes)
    assert tuple(there.predictor.views) == tuple(here.predictor.views)
    assert there.job == "projects/my-project/locations/us-central1/customJobs/1"
    assert 0 < there.cost_usd <= 2.0
    installed = [Path(line).name for line in (place.jobs.folder / "installed").read_text().splitlines()]
    assert installed[0] == "requirements.txt"
    assert installed[1].startswith("silvertune-")
    requirements = fake_storage.read(vertex_jobs.job_file(place.jobs)["requirements"]).decode()
    assert "\nscikit-learn==" in requirements
    assert "\ngoogle-cloud-storage==" in requirements
    assert "+" not in requirements
    assert "silvertune" not in requirements


CHINESE = pd.DataFrame(
    {
        "group_id": "g",
        "text": ["红色的花", "绿色的草", "红色的火", "绿色的树"],
        "label": ["other", "soe"] * 2,
        "weight": 1.0,
    },
    index=pd.Index(list("abcd"), name="item_id"),
)


def test_log_alarms_and_history_come_back(place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (there,) = place.backend().tune(model_of(TFIDF, tmp_path), [TrainingSet(CHINESE, CHINESE[:0], 0, "chinese")])
    line = "silvertune: model: view 'text' is in a script without blanks between words: read by characters\n"
    assert PredictorTraits.of(there.predictor).log == line
    (job,) = place.jobs.jobs.values()
    assert f"{job.job_spec.base_output_directory.output_uri_prefix}".startswith(f"{place.bucket}/runs/jobs/")


def tiny_encoder(folder: Path) -> tuple[dict[str, Any], Any]:
    network = tiny.bert(folder / "network")
    student = tiny.student(network, folder / "local-cache", epochs=1)
    config = {**tiny.shipped_model("minilm_lora"), "encoder": None}
    for name in ("learning_rate", "epochs", "batch_size", "class_weight", "precision", "device"):
        config[name] = getattr(student, name)
    encoder = student.encoder
    names = ("name", "path", "package", "sha256", "max_tokens", "batch_size", "kept_layer", "cache_gb")
    config["encoder"] = {"_target_": "silvertune.encoders.Encoder", **{name: getattr(encoder, name) for name in names}}
    return config, TASK


def tiny_causal_lm(folder: Path) -> tuple[dict[str, Any], Any]:
    tiny_causal.causal_lm(folder / "causal")
    student = tiny_causal.student(folder / "causal", folder / "local-cache", epochs=1)
    config = dict(tiny.shipped_model("causal_lora"))
    for name in config:
        if name != "_target_":
            config[name] = getattr(student, name)
    return config, {**TASK, "descriptions": {"soe": ["visits"], "other": ["doses"]}}


@pytest.mark.parametrize("student", [tiny_encoder, tiny_causal_lm])
def test_a_neural_student_whose_base_is_a_folder_here_comes_back_with_the_same_weights(
    place: Place, tmp_path: Path, student: Callable[[Path], tuple[dict[str, Any], Any]]
) -> None:
    config, task = student(tmp_path)
    model, sets = model_of(config, tmp_path, task), training_sets(1, "neural")
    (there,) = place.backend(config, task).tune(model, sets)
    (here,) = Local().tune(model, sets)
    files = [saved_bytes(tuned.predictor, tmp_path / name) for tuned, name in ((there, "there"), (here, "here"))]
    assert files[0].keys() == files[1].keys()
    for name in files[0]:
        if name == "adapter_config.json":  # PEFT writes a set of modules in any order
            configs = [json.loads(content[name]) for content in files]
            modules = [sorted(content.pop("target_modules")) for content in configs]
            assert modules[0] == modules[1]
            assert configs[0] == configs[1]
        else:
            assert files[0][name] == files[1][name], name
    probs = [tuned.predictor.predict_proba(made.items(24)).to_numpy() for tuned in (there, here)]
    np.testing.assert_allclose(*probs, atol=0.02)  # the tuned one reads the frozen layers from disk
    traits = [PredictorTraits.of(tuned.predictor) for tuned in (there, here)]
    assert traits[0].history == traits[1].history
    assert dict(traits[0].ran_on) == dict(traits[1].ran_on)
    assert traits[0].base_model == traits[1].base_model
    assert tuple(traits[0].packages) == tuple(traits[1].packages)


# ----------------------------------------------------------------------------------------- submitted once, found again


def test_the_settings_that_bound_what_a_job_costs_are_always_sent(place: Place, tmp_path: Path) -> None:
    list(place.backend(spot=False, restarts=0, accelerator_type=None).tune(model_of(TFIDF, tmp_path), training_sets()))
    (job,) = place.jobs.jobs.values()
    scheduling = job.job_spec.scheduling
    assert (scheduling.timeout.seconds, scheduling.max_wait_duration.seconds) == (3600, 600)
    assert (scheduling.strategy.name, scheduling.disable_retries) == ("STANDARD", True)
    (pool,) = job.job_spec.worker_pool_specs
    assert not pool.machine_spec.accelerator_type
    assert pool.container_spec.image_uri == vertex_jobs.IMAGE


@pytest.mark.parametrize("fault", ["lost after", "unavailable", "no filter"])
def test_answers_that_are_lost_or_wrong_make_no_second_job(place: Place, tmp_path: Path, fault: str) -> None:
    place.jobs.fault = fault
    model, sets = model_of(TFIDF, tmp_path), training_sets(2)
    assert len(list(place.backend().tune(model, sets))) == 2
    assert len(list(place.backend().tune(model, sets))) == 2
    assert list(place.jobs.labels().values()) == [1, 1]
    assert place.jobs.calls.count("create") == 2


def test_a_request_that_was_perhaps_never_sent_is_not_sent_again(place: Place, tmp_path: Path) -> None:
    place.jobs.fault = "unavailable before"
    with made.refused("it is unknown whether a tuning job was made (ServiceUnavailable", "silvertune-jobs forget"):
        list(place.backend().tune(model_of(TFIDF, tmp_path), training_sets()))
    assert place.jobs.calls.count("create") == 1
    assert not place.jobs.jobs


def test_a_container_whose_machine_is_taken_away_runs_once_more(place: Place, tmp_path: Path) -> None:
    place.serve("taken away")
    assert len(list(place.backend().tune(model_of(TFIDF, tmp_path), training_sets()))) == 1
    assert list(place.jobs.starts.values()) == [2]
    assert len(place.jobs.jobs) == 1


def test_without_restarts_a_machine_that_is_taken_away_is_a_failure(place: Place, tmp_path: Path) -> None:
    place.serve("taken away")
    reason = "failed (the container left no reason; its log: gcloud ai custom-jobs stream-logs projects/my-project/"
    with made.refused(reason, "(The replica workerpool0-0 exited with a non-zero status of -9.)", "submits it anew"):
        list(place.backend(restarts=0).tune(model_of(TFIDF, tmp_path), training_sets()))
    place.jobs.container = "forked"
    assert len(list(place.backend(restarts=0).tune(model_of(TFIDF, tmp_path), training_sets()))) == 1
    assert sorted(place.jobs.labels().values()) == [1, 1]


@pytest.mark.parametrize("state", ["JOB_STATE_PAUSED", "JOB_STATE_PARTIALLY_SUCCEEDED", "JOB_STATE_UNSPECIFIED"])
def test_a_state_that_neither_goes_on_nor_ends_is_undecided(place: Place, state: str) -> None:
    place.jobs.jobs["a"] = vertex_jobs.v1.CustomJob(name="a", state=STATE[state])
    assert place.service().status("a").state == "undecided"
    assert place.service().status("a").message == state


def test_an_expired_job_has_failed_and_one_that_never_started_cost_nothing(place: Place) -> None:
    place.jobs.jobs["a"] = vertex_jobs.v1.CustomJob(name="a", state=STATE.JOB_STATE_EXPIRED)
    status = place.service().status("a")
    assert (status.state, status.cost_usd) == ("failed", 0.0)


def test_a_job_is_cancelled(place: Place) -> None:
    job = vertex_jobs.v1.CustomJob(name="a", state=STATE.JOB_STATE_RUNNING, start_time=vertex_jobs._now())
    place.jobs.jobs["a"] = job
    place.service().cancel("a")
    status = place.service().status("a")
    assert status.state == "cancelled"
    assert 0 < (status.cost_usd or 0) < 0.01


def test_a_job_that_is_gone_is_told(place: Place) -> None:
    with made.refused("backend.service: Google refused it (404 b is not found"):
        place.service().status("b")


# -------------------------------------------------------------------------------------------------- what goes wrong


def test_why_a_container_failed_is_told_in_its_own_words(place: Place, tmp_path: Path) -> None:
    model = {**TFIDF, "token_pattern": "no such word"}
    with made.refused("failed (model: view 'json' can't be learned from: ", "exited with a non-zero status of 1"):
        list(place.backend(model).tune(model_of(TFIDF, tmp_path), training_sets()))


def test_packages_that_can_not_be_installed_are_told(place: Place, tmp_path: Path) -> None:
    place.serve("process")
    place.jobs.environment["PIP_RESULT"] = "fails"
    with made.refused("failed (pip can't install the requirements (ERROR: No matching distribution found for nothing"):
        list(place.backend().tune(model_of(TFIDF, tmp_path), training_sets()))


def test_an_image_that_does_not_start_is_told(place: Place, tmp_path: Path) -> None:
    place.serve("never")
    with made.refused(f"failed (Failed to pull image {vertex_jobs.IMAGE}); so far it cost $0.00"):
        list(place.backend().tune(model_of(TFIDF, tmp_path), training_sets()))


def test_what_google_refuses_is_told_and_costs_nothing(place: Place, tmp_path: Path) -> None:
    place.jobs.fault = "permission"
    with made.refused("the provider refused the tuning job", "Google refused it (403 Permission 'aiplatform."):
        list(place.backend().tune(model_of(TFIDF, tmp_path), training_sets()))
    assert place.backend().ledger.committed_usd() == 0.0
    assert len(list(place.backend().tune(model_of(TFIDF, tmp_path), training_sets()))) == 1


def test_more_jobs_than_the_quota_wait_for_their_turn(place: Place, tmp_path: Path) -> None:
    model, sets = model_of(TFIDF, tmp_path), training_sets(2)
    place.jobs.quota = 0
    with made.refused("backend.service: the quota is used up (429 quotas exceeded: custom_model_"):
        list(place.backend().tune(model, sets))
    assert place.backend().ledger.committed_usd() == 0.0
    place.jobs.quota = 1
    assert len(list(place.backend().tune(model, sets))) == 2
    assert list(place.jobs.labels().values()) == [1, 1]


def test_nothing_is_submitted_to_a_bucket_in_another_region(place: Place, tmp_path: Path) -> None:
    with made.refused("the bucket is in us-central1, and the jobs run in europe-west4"):
        list(place.backend(location="europe-west4").tune(model_of(TFIDF, tmp_path), training_sets()))
    assert "create" not in place.jobs.calls
    assert fake_storage.names(place.bucket) == []


def test_nothing_is_submitted_without_credentials(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_credentials(setting: str) -> Any:
        raise UserError(f"{setting}: no Google credentials on this machine that can be used: {google_cloud.LOG_IN}")

    monkeypatch.setattr(google_cloud, "credentials", no_credentials)
    service = place.service(base_url=None)
    service.stage(None, training_sets()[0], "label-0")
    with made.refused("backend.service: no Google credentials on this machine"):
        service.submit(None, training_sets()[0], "label-0")
    with made.refused("no Google credentials on this machine"):
        service.find("label-0")
    assert "no Google credentials" in [result.mend for result in service.probe(None)][1]


WRONG: dict[str, tuple[Any, str]] = {
    "image": ("python:3.11", "want an image by its digest"),
    "machine_type": ("big machine", "want a machine type, such as g2-standard-8"),
    "accelerator_type": ("L4 please", "want such as NVIDIA_L4, or null"),
    "accelerator_count": (0, "want a whole number from 1"),
    "disk_gb": (10, "want a whole number from 100"),
    "restarts": (-1, "want a whole number from 0"),
    "timeout_s": (1, "want a number from 60"),
    "max_wait_s": (0, "want a number above 0"),
    "usd_per_hour": (math.nan, "want a number from 0"),
    "storage": ("/tmp/here", "want gs://bucket or gs://bucket/folder"),
    "location": ("global", "want one region"),
    "project": ("A key?", "want the id of a Google Cloud project"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_out_of_range_is_refused(name: str, tmp_path: Path) -> None:
    value, words = WRONG[name]
    with made.refused(f"backend.service.{name}", words):
        VertexJob({}, tmp_path, **vertex_jobs.settings("gs://bucket", None, **{name: value}))


def test_an_accelerator_that_vertex_ai_has_not_is_refused_before_anything_is_sent(place: Place) -> None:
    service = place.service(accelerator_type="NVIDIA_L5")
    with made.refused("accelerator_type=NVIDIA_L5: Vertex AI has no such accelerator", "NVIDIA_L4"):
        service.stage(None, training_sets()[0], "label-0")
    assert [result.ok for result in service.probe(None)] == [True, True, False, True, True]


@pytest.mark.parametrize(("limit", "ok"), [(None, True), (0.0, False), (1.0, False), (2.0, True)])
def test_a_quota_below_the_accelerators_of_one_machine_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, limit: float | None, ok: bool
) -> None:
    metrics: list[str] = []

    def quota(metric: str, *place: Any) -> float | None:
        metrics.append(metric)
        return limit

    monkeypatch.setattr(google_cloud, "quota", quota)
    results = place.service(accelerator_count=2).probe(None)
    assert [result.ok for result in results] == [True, True, True, True, ok]
    assert metrics == ["aiplatform.googleapis.com/custom_model_training_preemptible_nvidia_l4_gpus"]


def test_what_the_jobs_cost_at_most_is_all_their_time(place: Place) -> None:
    estimate = place.service(timeout_s=7200, usd_per_hour=0.5).estimate(None, training_sets(3))
    assert (estimate.calls, estimate.dollars) == (3.0, 3.0)
    assert "as read on 2026-11-29" in estimate.notes[0]


def test_a_model_without_fit_is_refused(place: Place) -> None:
    with made.refused("backend=vertex_job can't tune model object: it has no fit"):
        place.service().check(object())
