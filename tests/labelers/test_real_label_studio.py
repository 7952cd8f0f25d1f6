"""The round trip through Label Studio itself, started on loopback."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import made
from tests.labelers.test_label_studio import read, studio

pytestmark = pytest.mark.soak

PROGRAM = os.environ.get("LABEL_STUDIO") or shutil.which("label-studio")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
ASKS = Callable[..., Any]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ASKS]:
    """A function that asks Label Studio's API: method, path, content -> answer."""
    if PROGRAM is None:
        pytest.skip("label-studio is not installed: make a venv, pip install label-studio, LABEL_STUDIO=<its program>")
    folder = tmp_path_factory.mktemp("label_studio")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [PROGRAM, "start", "--no-browser", "--data-dir", str(folder), "--port", str(port)]
    command += ["--internal-host", "127.0.0.1", "--username", "ann@example.org", "--password", "a-pass-word"]
    command += ["--user-token", TOKEN, "--enable-legacy-api-token"]
    environment = {"PATH": os.defpath, "HOME": str(folder), "COLLECT_ANALYTICS": "false", "SENTRY_DSN": "",
                   "FRONTEND_SENTRY_DSN": "", "LATEST_VERSION_CHECK": "false"}  # fmt: skip

    def asks(method: str, path: str, content: object = None) -> Any:
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"null")

    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 900  # it makes its database first
        while True:
            assert process.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < deadline
            try:
                asks("GET", "/health")
                break
            except OSError:
                time.sleep(1)
        yield asks
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def exported(api: ASKS, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, list[Any]]:
    """The folder with the exports of a project, the items that it is about, and its tasks as Label Studio has them."""
    folder, items = tmp_path_factory.mktemp("studio"), made.items(4)
    items.loc["i000", "json"] = '[["Procedure", "Week 4"], ["ECG < 1", null]]'
    labeler = studio(folder, items.index, tables=["json"])
    drafts = pd.DataFrame({"label": ["soe", "other", None, "soe"], "confidence": [0.9, 0.6, 0.5, 0.7]}, items.index)
    labeler.show_drafts(drafts)
    with made.refused("4 of 4 item(s) wait"):
        labeler.label(items)
    project = api(
        "POST", "/api/projects", {"title": "silver labels", "label_config": (folder / "config.xml").read_text()}
    )["id"]
    api("POST", f"/api/projects/{project}/import", read(folder / "tasks.json"))
    tasks = api("GET", f"/api/tasks?project={project}&fields=all")["tasks"]
    for task, label in zip(tasks, ["soe", "other", None, "soe"], strict=True):
        choice = {"from_name": "label", "to_name": "view_json", "type": "choices", "value": {"choices": [label]}}
        content = {"result": [choice]} if label else {"result": [], "was_cancelled": True}
        api("POST", f"/api/tasks/{task['id']}/annotations/", content)
    # The second annotator agrees on one task, contradicts on another, answers the one that the first one skips, and
    # leaves the last as a draft.
    bob = {"email": "bob@example.org", "username": "bob", "password": "b-pass-word"}
    bob_id = api("POST", "/api/users/", bob)["id"]
    for task, label in zip(tasks[:3], ["soe", "soe", "other"], strict=True):
        content = {"result": [choice | {"value": {"choices": [label]}}], "completed_by": bob_id}
        api("POST", f"/api/tasks/{task['id']}/annotations/", content)
    api("POST", f"/api/tasks/{tasks[3]['id']}/drafts?project={project}", {"result": [choice], "lead_time": 1.0})
    for kind in ("JSON", "JSON_MIN"):
        answers = api("GET", f"/api/projects/{project}/export?exportType={kind}&download_all_tasks=true")
        (folder / f"{kind}.json").write_text(json.dumps(answers))
    return folder, items, tasks


def test_label_studio_takes_the_tasks_and_fills_the_labels_in(exported: tuple[Path, pd.DataFrame, list[Any]]) -> None:
    _, items, tasks = exported
    assert [task["data"]["item_id"] for task in tasks] == list(items.index)
    filled_in = [
        [(one["model_version"], one["score"], one["result"][0]["value"]["choices"]) for one in task["predictions"]]
        for task in tasks
    ]
    assert filled_in == [
        [("silvertune", 0.9, ["soe"])], [("silvertune", 0.6, ["other"])], [], [("silvertune", 0.7, ["soe"])],
    ]  # fmt: skip


def test_its_exports_come_back_with_both_annotators(exported: tuple[Path, pd.DataFrame, list[Any]]) -> None:
    folder, items, _ = exported
    votes = studio(folder, items.index, tables=["json"], names={2: "bob"}).label(items)
    assert [tuple(row) for row in votes[["item_id", "annotator", "label", "status"]].to_numpy()] == [
        ("i000", "people/1", "soe", "ok"), ("i000", "people/bob", "soe", "ok"), ("i001", "people/1", "other", "ok"),
        ("i001", "people/bob", "soe", "ok"), ("i002", "people/1", None, "abstained"),
        ("i002", "people/bob", "other", "ok"), ("i003", "people/1", "soe", "ok"),
    ]  # fmt: skip
    (folder / "JSON.json").unlink()  # JSON-MIN leaves out skipped tasks
    votes = studio(folder, items.index, tables=["json"]).label(items)
    assert votes["annotator"].tolist() == ["people/1", "people/2"] * 2 + ["people/2", "people/1"]


def test_a_task_that_nobody_has_answered_waits(api: ASKS, exported: tuple[Path, pd.DataFrame, list[Any]]) -> None:
    folder, items, tasks = exported
    project = tasks[0]["project"]
    for one in api("GET", f"/api/tasks/{tasks[3]['id']}/annotations/"):
        api("DELETE", f"/api/annotations/{one['id']}/")
    for kind in ("JSON", "JSON_MIN"):
        for file in folder.glob("JSON*.json"):
            file.unlink()
        answers = api("GET", f"/api/projects/{project}/export?exportType={kind}&download_all_tasks=true")
        (folder / f"{kind}.json").write_text(json.dumps(answers))
        with made.refused("1 of 4 item(s) wait", "the first is 'i003'"):
            studio(folder, items.index, tables=["json"]).label(items)
