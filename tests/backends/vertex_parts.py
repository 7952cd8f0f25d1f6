"""The parts of a run that tunes and asks by the doubles of Vertex AI, for tests that need no command line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from tests import made
from tests.backends.vertex_double import LOCATION, PROJECT, Double

from silvertune.backends import Ledger, Remote, TuningLimits, Vertex
from silvertune.llms import Gemini, Limits, Price, StorePlace
from silvertune.models import GeminiTuned

CONF = Path(__file__).parents[2] / "conf"
USD = 1.5


def _shipped(group: str, name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def _settings(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != "_target_"}


def model(folder: Path, url: str = "http://127.0.0.1:9/", **changed: Any) -> GeminiTuned:
    """The shipped model, asked at an address; names with `llm_` before them change how it is asked."""
    content = _settings(_shipped("model", "gemini_tuned"))
    llm = _settings(content["llm"]) | {"model": content["base_model"], "base_url": url}
    limits = {**_settings(llm["limits"]), "backoff_s": 0.01, "longest_pause_s": 0.05, "concurrency": 8, "retries": 1}
    llm |= {"price": Price(**_settings(llm["price"])), "limits": Limits(**limits)}
    of_llm = {name.removeprefix("llm_"): changed.pop(name) for name in list(changed) if name.startswith("llm_")}
    content |= {
        "task": made.SOE, "cache": folder / "cache", "llm": Gemini(**(llm | of_llm)),
        "store": StorePlace(**_settings(content["store"])),
    }  # fmt: skip
    return GeminiTuned(**(content | changed))


def service(double: Double, bucket: str, **changed: Any) -> Vertex:
    content = _settings(_shipped("backend", "vertex")["service"])
    content |= {
        "project": PROJECT, "location": LOCATION, "storage": f"{bucket}/silvertune", "usd_per_million_tokens": USD,
        "price_as_of": "2026-11-29", "base_url": double.address, "quota_base_url": double.url.rstrip("/"),
        "limits": TuningLimits(**_settings(content["limits"])), "timeout_s": 10.0,
    }  # fmt: skip
    if "limits" in changed:
        changed["limits"] = replace(content["limits"], **changed["limits"])
    return Vertex(**(content | changed))


def remote(folder: Path, double: Double, bucket: str, *, budget_usd: float | None = None, **changed: Any) -> Remote:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", budget_usd=budget_usd, lease_s=60)
    return Remote(service(double, bucket, **changed), ledger, poll_s=0.01, deadline_s=30)
