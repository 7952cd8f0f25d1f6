"""What is sent of silvertune and of the user's code."""

import base64
import csv
import hashlib
import importlib.metadata
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import made

import silvertune
from silvertune.backends import job_files, wheel


def test_the_same_files_make_the_same_wheel_whose_record_holds() -> None:
    content = wheel.build()
    assert content == wheel.build()
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = set(archive.namelist())
    assert {"silvertune/runner.py", "silvertune/_shipped/conf/backend/local.yaml"} <= names
    assert not any("__pycache__" in name for name in names)
    (record,) = [name for name in names if name.endswith("/RECORD")]
    rows = list(csv.reader(io.TextIOWrapper(archive.open(record))))
    assert {row[0] for row in rows} == names
    for name, digest, size in rows:
        if name != record:
            data = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={expected}", str(len(data)))


@pytest.mark.soak
def test_pip_installs_the_wheel(tmp_path: Path) -> None:
    (tmp_path / wheel.name()).write_bytes(wheel.build())
    options = ["--quiet", "--no-deps", "--no-index", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(tmp_path / wheel.name())], check=True)
    shown = subprocess.run(
        [sys.executable, "-c", "import silvertune, silvertune.schema as s; print(silvertune.__file__, s.SHIPPED)"],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    site = tmp_path / "site" / "silvertune"
    assert shown.stdout.split() == [str(site / "__init__.py"), str(site / "_shipped")]


def test_a_users_module_goes_with_it_and_an_installed_one_is_a_requirement(user: Callable[..., str]) -> None:
    module = user("def student():\n    pass\n")
    config = {"_target_": f"{module}.student", "inner": [{"_target_": "sklearn.pipeline.Pipeline"}]}
    assert job_files.code_of_users(config) == ([module], ["scikit-learn"])
    assert f"{module}.py" in zipfile.ZipFile(io.BytesIO(wheel.build([module]))).namelist()
    with made.refused("module nowhere_at_all: has no source file"):
        wheel.build(["nowhere_at_all"])


def test_of_a_users_package_its_code_goes_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "odd_names"
    (package / ".git").mkdir(parents=True)
    for name in ("__init__.py", "a,b.txt", ".git/config"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    archive = zipfile.ZipFile(io.BytesIO(wheel.build(["odd_names"])))
    assert {name for name in archive.namelist() if "odd" in name} == {"odd_names/__init__.py", "odd_names/a,b.txt"}
    (record,) = [name for name in archive.namelist() if name.endswith("/RECORD")]
    assert "odd_names/a,b.txt" in {row[0] for row in csv.reader(io.TextIOWrapper(archive.open(record)))}
    monkeypatch.setattr(wheel, "LARGEST_MODULE", 10)
    (package / "__init__.py").write_text("# longer than that")
    with made.refused(f"module odd_names: its folder {package} has", "keep data elsewhere"):
        list(wheel._files("odd_names"))


def test_requirements_are_those_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {
        "silvertune": ["on-linux; sys_platform == 'linux'", "on-windows; os_name == 'nt'", "not-here"],
        "on-linux": [], "on-windows": [],
    }  # fmt: skip

    def distribution(name: str) -> SimpleNamespace:
        if name not in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return SimpleNamespace(version="1.0+cpu", requires=packages[name])

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    assert wheel.requirements() == "on-linux==1.0\n"


def test_requirements_are_what_is_installed_here() -> None:
    pins = dict(line.split("==") for line in wheel.requirements(["google-cloud-storage"]).splitlines())
    assert {"torch", "peft", "pandas", "google-cloud-storage", "google-auth"} <= set(pins)
    assert "pytest" not in pins
    assert pins["pandas"] == importlib.metadata.version("pandas")
    assert pins["torch"] == importlib.metadata.version("torch").partition("+")[0]
    with made.refused("nowhere-at-all: is not installed as a package here"):
        wheel.requirements(["nowhere-at-all"])
    assert silvertune.__version__ in wheel.name()


TEXTS = st.one_of(st.text(), st.sampled_from(["\ud800", "", "\x00", "NaN"]), st.none())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, st.floats(0), st.integers(-(2**53), 2**53)), min_size=0, max_size=6))
def test_rows_come_as_they_were_sent(rows: list[tuple[str | None, str | None, float, int]]) -> None:
    sent = pd.DataFrame(
        {
            "group_id": pd.Series(["g"] * len(rows), dtype=object),
            "json": pd.Series([row[0] for row in rows], dtype=object),
            "weight": pd.Series([row[2] for row in rows], dtype="float64"),
            "count": pd.Series([row[3] for row in rows], dtype="int64"),
        }
    )
    sent.index = pd.Index([f"i{number}" for number in range(len(rows))], name="item_id", dtype=object)
    came = job_files.decoded(job_files.encoded(sent))
    pd.testing.assert_frame_equal(came, sent, check_exact=True)
    assert came["json"].tolist() == sent["json"].tolist()
