"""How fast labels arrive from a server that takes 0.5 s to answer, beside what else one might write.

    python benchmarks/labeling.py [PYTHON]

PYTHON: an interpreter that has distilabel, which does not install beside silvertune. The server is a process of its own
on this machine. Each contender sends the same requests and reads the answers; silvertune's part is the whole of
`LLMLabeler.label`: prompts, store on disk, votes. They take turns, and the median of the rounds counts. The last line
is one JSON object: requests per second at 64 in flight as shares of a bare aiohttp loop's, and silvertune's at 256 too.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

LATENCY_S, ROUNDS, WAVES = 0.5, 3, 12
TEXT = "Procedure | Screening | Week 1 | Week 2\nInformed consent | X | |\nVital signs | X | X | X\n" * 12

SERVER = f"""
import asyncio, json
from aiohttp import web
ANSWER = json.dumps({{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{{"index": 0,
    "finish_reason": "stop", "message": {{"role": "assistant", "content": json.dumps({{"label": "YES"}})}}}}],
    "usage": {{"prompt_tokens": 400, "completion_tokens": 5, "total_tokens": 405}}}}).encode()
async def chat(request):
    await request.read()
    await asyncio.sleep({LATENCY_S})
    return web.Response(body=ANSWER, content_type="application/json")
async def main():
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""

DISTILABEL = """
import sys, time, json
from distilabel.models import OpenAILLM
url, n, in_flight, text = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
llm = OpenAILLM(model="m", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 50})
llm.load()
started = time.perf_counter()
for start in range(0, n, in_flight):
    inputs = [[{"role": "user", "content": f"{k} {text}"}] for k in range(start, min(start + in_flight, n))]
    answers = llm.generate(inputs=inputs, max_new_tokens=50)
    assert all(answer["generations"][0] for answer in answers)
print(json.dumps(n / (time.perf_counter() - started)))
"""


@contextmanager
def server() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()


def items(n: int, text: str = TEXT) -> pd.DataFrame:
    ids = pd.Index([f"i{k}" for k in range(n)], name="item_id", dtype=object)
    return pd.DataFrame({"group_id": "g", "text": [f"{k} {text}" for k in range(n)]}, index=ids, dtype=object)


def labeler(url: str, in_flight: int, folder: Path) -> Any:
    from silvertune import votes
    from silvertune.labelers.llm import LLMLabeler, StorePlace
    from silvertune.llms.interface import Limits, Price
    from silvertune.llms.openai_compatible import OpenAICompatible
    from silvertune.schema import Task

    task = Task("soe", ["other", "soe"], "soe", prompts={"text": "Is it?"}, answers={"soe": "YES", "other": "NO"})
    llm = OpenAICompatible(
        model="m", base_url=url, family="double", api_key_env=None, temperature=0.0, max_tokens=50,
        max_tokens_field="max_tokens", structured=False, top_logprobs=None, extra_body={}, price=Price(1.0, 2.0),
        limits=Limits(in_flight, None, None, 60.0, 5, 600.0, 1.0, 60.0),
    )  # fmt: skip
    nothing = votes.table([], task.classes)
    return LLMLabeler(
        task, folder, nothing, items(0), llm={"m": llm}, views=None, repeats=1, reason=False, confidence=False,
        few_shot=None, max_item_tokens=3000, store=StorePlace(None, 60.0, 3600.0), budget_usd=None,
    )  # fmt: skip


def bodies(n: int) -> list[dict[str, Any]]:
    """The requests that silvertune would send, rendered beforehand."""
    made = labeler("http://h/v1", 1, Path())
    (model,), (asked,) = made.llm.values(), made._rounds(items(n))
    return [model._body(asked.prompt.request(text), frozenset()) for text in asked.texts]


async def pooled(n: int, in_flight: int, ask: Callable[[int], Any]) -> float:
    """Requests a second, with so many workers that take the next number each."""
    numbers = iter(range(n))

    async def work() -> None:
        for number in numbers:
            await ask(number)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return n / (time.perf_counter() - started)


def bare_aiohttp(url: str, in_flight: int) -> float:
    import aiohttp

    content = bodies(in_flight * WAVES)

    async def go() -> float:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(number: int) -> None:
                async with session.post(f"{url}/chat/completions", json=content[number]) as response:
                    answer = json.loads(await response.read())
                assert json.loads(answer["choices"][0]["message"]["content"])["label"] == "YES"

            return await pooled(len(content), in_flight, ask)

    return asyncio.run(go())


def async_openai(url: str, in_flight: int) -> float:
    from openai import AsyncOpenAI

    content = bodies(in_flight * WAVES)

    async def go() -> float:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            semaphore = asyncio.Semaphore(in_flight)

            async def ask(number: int) -> None:
                async with semaphore:
                    answer = await client.chat.completions.create(**content[number])
                assert json.loads(answer.choices[0].message.content or "")["label"] == "YES"

            started = time.perf_counter()
            await asyncio.gather(*(ask(number) for number in range(len(content))))
            return len(content) / (time.perf_counter() - started)

    return asyncio.run(go())


def silvertune(url: str, in_flight: int) -> float:
    n = in_flight * WAVES
    with tempfile.TemporaryDirectory() as folder:
        made, asked = labeler(url, in_flight, Path(folder)), items(n)
        started = time.perf_counter()
        table = made.label(asked)
        rate = n / (time.perf_counter() - started)
    assert (table["label"] == "soe").all()
    assert len(table) == n
    return rate


def distilabel(url: str, in_flight: int, python: str | None) -> float | None:
    """Its OpenAILLM given as many inputs at a time as are to be in flight, without the cost of its pipeline."""
    if python is None:
        print("distilabel: not measured, no Python that has it was given")
        return None
    command = [python, "-c", DISTILABEL, url, str(in_flight * WAVES), str(in_flight), TEXT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"distilabel: not measured, it failed: {done.stderr.strip().splitlines()[-1]}")
        return None
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    python = sys.argv[1] if len(sys.argv) > 1 else None
    rates: dict[str, list[float]] = {}
    with server() as url:
        for _ in range(ROUNDS):
            for in_flight in (64, 256):
                contenders = [bare_aiohttp, silvertune, *([async_openai] if in_flight == 64 else [])]
                for contender in contenders:
                    rates.setdefault(f"{contender.__name__}_{in_flight}", []).append(contender(url, in_flight))
        other = distilabel(url, 64, python)
    median = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name:20s} {median[name]:6.1f}/s   rounds: {', '.join(f'{value:.1f}' for value in values)}")
    if other is not None:
        print(f"{'distilabel_64':20s} {other:6.1f}/s")
    result = {
        "of_aiohttp_64": round(median["silvertune_64"] / median["bare_aiohttp_64"], 3),
        "of_aiohttp_256": round(median["silvertune_256"] / median["bare_aiohttp_256"], 3),
        "async_openai_64": round(median["async_openai_64"] / median["bare_aiohttp_64"], 3),
        "distilabel_64": None if other is None else round(other / median["bare_aiohttp_64"], 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
