"""The LLM labeler over processes: killed ones, interrupted ones, and many at once. The server's own count proves it."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import cli
from tests.llms.openai_double import Double, serving

pytestmark = pytest.mark.soak  # kill -9, many processes

CONCURRENCY = 16
JOB = f"""
import sys
from pathlib import Path
from tests import made
from tests.llms import made_llms

url, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
llm = made_llms.openai(url, limits_=made_llms.limits(concurrency={CONCURRENCY}, timeout_s=30.0))
made.SOE.answers.update(soe="YES", other="NO")
table = made_llms.labeler(made.SOE, {{"gpt": llm}}, folder).label(made.items(n))
print(table["status"].value_counts().to_dict())
"""


def job(double: Double, folder: Path, n: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", JOB, double.url, str(folder), str(n)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def finished(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out.strip()


def wait_until(double: Double, received: int) -> None:
    deadline = time.monotonic() + 120
    while double.received < received:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def killed_again_and_again(folder: Path, n: int, kills: int) -> Double:
    rng = random.Random(0)
    with serving(Double(latency_s=0.1)) as double:
        double.keep_requests = False
        for _ in range(kills):
            process = job(double, folder, n)
            # From the first request on, at any moment of what a share of the job takes.
            wait_until(double, double.received + 1)
            time.sleep(rng.uniform(0.0, 2 * n * 0.1 / CONCURRENCY / kills))
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert finished(job(double, folder, n)) == f"{{'ok': {2 * n}}}"
        again = double.received
        assert finished(job(double, folder, n)) == f"{{'ok': {2 * n}}}"
        assert double.received == again
    asked_again = double.received - 2 * n
    assert len(double.counts) == 2 * n
    assert 0 <= asked_again <= kills * CONCURRENCY
    # Each kill may cost a request its answer; none was asked again for any other reason.
    assert max(double.counts.values()) <= 1 + kills
    print(f"\n{2 * n} questions, {kills} kills, {double.received} requests: {asked_again} asked again "
          f"(at most {kills * CONCURRENCY})")  # fmt: skip
    return double


def at_once(folder: Path, n: int, processes: int) -> None:
    with serving(Double(latency_s=0.05)) as double:
        double.keep_requests = False
        for process in [job(double, folder, n) for _ in range(processes)]:
            assert finished(process) == f"{{'ok': {2 * n}}}"
    assert set(double.counts.values()) == {1}
    assert double.received == len(double.counts) == 2 * n
    print(f"\n{processes} processes, {2 * n} questions: {double.received} requests")


def test_a_killed_job_pays_again_for_nothing_but_what_was_under_way(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, n=60, kills=1)


def test_processes_that_label_the_same_ask_each_question_once(tmp_path: Path) -> None:
    at_once(tmp_path, n=60, processes=3)


def test_ten_kills(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, n=1000, kills=10)


def test_eight_processes(tmp_path: Path) -> None:
    at_once(tmp_path, n=1000, processes=8)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_every_answer_that_came(tmp_path: Path, how: signal.Signals) -> None:
    code = f"import signal\ndef end(*_): raise KeyboardInterrupt\nsignal.signal(signal.SIGTERM, end)\n{JOB}"
    with serving(Double(latency_s=0.1)) as double:
        command = [sys.executable, "-c", code, double.url, str(tmp_path), "100"]
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            preexec_fn=cli.heed_interrupts,
        )
        wait_until(double, 50)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "KeyboardInterrupt" in err
        answered = sum(double.counts.values())
        assert answered < 200
        assert finished(job(double, tmp_path, 100)) == "{'ok': 200}"
    # After SIGINT what was under way was waited for; a SIGTERM may lose it.
    assert double.received - 200 <= (0 if how == signal.SIGINT else CONCURRENCY)
