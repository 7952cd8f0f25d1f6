"""The OpenAI-compatible LLM against servers that we did not write: with a model that we did make, and with SmolLM2."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests import made
from tests.llms import made_llms, tiny_lm

from silvertune.llms.pretrained import Pretrained
from silvertune.model_files import packaged
from silvertune.schema import Task

pytestmark = pytest.mark.soak
TASK = Task(**(vars(made.SOE) | {"answers": {"soe": "YES", "other": "NO"}}))
EXAMPLES = {
    "It rains.": "soe",
    "The soup is hot.": "other",
    "Snow fell all night.": "soe",
    "Cheese is made of milk.": "other",
}
WEATHER = Task(
    name="weather",
    classes=["other", "soe"],
    positive="soe",
    answers={"soe": "YES", "other": "NO"},
    prompts={"text": "Is the sentence about the weather? Answer YES or NO."},
    examples=[{"view": "text", "text": text, "label": label} for text, label in EXAMPLES.items()],
)
"""A question that SmolLM2 answers rightly and, by the examples, in our format."""


@pytest.fixture(scope="module")
def smollm2() -> Pretrained:
    yaml_file = Path(__file__).parents[2] / "conf" / "labeler" / "llm" / "smollm2.yaml"
    settings = yaml.safe_load(yaml_file.read_text(encoding="utf-8"))["smollm2"]
    if packaged.installed_files(settings["package"]) is None:
        pytest.skip(f"{settings['package']} is not installed: make smollm2")
    return Pretrained(None, package=settings["package"], sha256=settings["sha256"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm.save(tmp_path_factory.mktemp("tiny"))


@contextmanager
def server(command: list[str], port: int, ready: str) -> Iterator[str]:
    """The base URL of a server, while it runs. ready: a path that answers once it does."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "HF_HUB_OFFLINE": "1"})  # fmt: skip
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + 400
        while True:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5).read()
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=30)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def labelled(url: str, model: str, folder: Path) -> pd.DataFrame:
    items = made.items(10).assign(text=["X " * 200] * 5 + ["b"] * 5, json=None)
    llm = made_llms.openai(url, model=model, limits_=made_llms.limits(concurrency=2, timeout_s=60.0))
    return made_llms.labeler(TASK, {"tiny": llm}, folder, views=["text"]).label(items)


def labelled_by_smollm2(url: str, model: str, folder: Path) -> pd.DataFrame:
    items = made.items(6).assign(text=["The sky is blue. " * 3] * 3 + ["Bread is made of flour."] * 3, json=None)
    llm = made_llms.openai(url, model=model, max_tokens=20, limits_=made_llms.limits(concurrency=1, timeout_s=300.0))
    table = made_llms.labeler(WEATHER, {"smollm2": llm}, folder, views=["text"]).label(items)
    assert set(table["status"]) == {"ok"}, table[["status", "raw"]]
    assert table["label"].tolist() == ["soe"] * 3 + ["other"] * 3
    return table


def transformers_serve(folder: Path, port: int) -> list[str]:
    python = Path(sys.executable).parent
    return [str(python / "transformers"), "serve", str(folder), "--port", str(port), "--device", "cpu", "--host",
            "127.0.0.1"]  # fmt: skip


def test_transformers_serve(folder: Path, tmp_path: Path) -> None:
    port = free_port()
    # Its list of models is an error where the hub's cache is missing.
    with server(transformers_serve(folder, port), port, "/health") as url:
        table = labelled(url, str(folder), tmp_path)
    check(table)
    assert table["confidence"].isna().all()  # it tells no probabilities


def test_transformers_serve_with_smollm2(smollm2: Pretrained, tmp_path: Path) -> None:
    smollm2.network("float32").save_pretrained(tmp_path / "smollm2")
    smollm2.tokenizer().save_pretrained(tmp_path / "smollm2")
    port = free_port()
    with server(transformers_serve(tmp_path / "smollm2", port), port, "/health") as url:
        table = labelled_by_smollm2(url, str(tmp_path / "smollm2"), tmp_path)
    assert table["confidence"].isna().all()


@pytest.fixture(scope="module")
def llama_cpp_server() -> Path:
    """The script that serves a GGUF file by llama.cpp."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp, which carries llama.cpp's server, is not installed: make .venv/llama_cpp")
    return Path(__file__).parent / "llama_cpp_server.py"


def test_llama_cpp(llama_cpp_server: Path, folder: Path, tmp_path: Path) -> None:
    file, port = tmp_path / "tiny.gguf", free_port()
    tiny_lm.write_gguf(folder, file)
    with server([sys.executable, str(llama_cpp_server), str(file), str(port)], port, "/health") as url:
        table = labelled(url, "tiny", tmp_path)
    check(table)
    assert table["confidence"].between(0.5, 1.0).all()
    assert (table["prob:soe"].iloc[:5] > 0.5).all()


def test_llama_cpp_with_smollm2(llama_cpp_server: Path, smollm2: Pretrained, tmp_path: Path) -> None:
    file, port = smollm2.file(), free_port()
    with server([sys.executable, str(llama_cpp_server), str(file), str(port)], port, "/health") as url:
        table = labelled_by_smollm2(url, "smollm2", tmp_path)
    assert table["confidence"].between(0.5, 1.0).all()


def check(table: pd.DataFrame) -> None:
    assert set(table["status"]) == {"ok"}, table[["status", "raw"]]
    assert table["label"].tolist() == ["soe"] * 5 + ["other"] * 5
    assert (table["tokens_in"] > 100).all()
    assert (table["tokens_out"] > 0).all()
    assert (table["cost_usd"] > 0).all()
    print(f"\n{table['raw'].iloc[0]} {table['confidence'].iloc[0]} tokens {table['tokens_in'].iloc[0]} in, "
          f"{table['tokens_out'].iloc[0]} out; model {table['model'].iloc[0]}")  # fmt: skip
