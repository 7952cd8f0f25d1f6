"""Whether the model that answered is the one that was asked: providers reroute, and say so in the answer alone."""

import re

_VERSION = re.compile(
    r"(?:@(?P<revision>[\w.-]+)|[-:.](?:(?:preview|exp)-)?"
    r"(?P<version>20\d\d-?\d\d-?\d\d|\d\d-20\d\d|\d\d-\d\d|\d{3,4}|v\d+(?::\d+)?|latest|default))$"
)
"""How a name says which version of a model it is: dates, months, numbers, a revision, words for the newest one."""
_MOVING = ("latest", "default", "main")


def differs(served: str, asked: str) -> bool:
    """Whether a model that answered is another one than the model that was asked.

    Versions of one model are the same model: `gpt-x` and `gpt-x-2026-08-01`, `gemini-x` and `models/gemini-x-001`,
    `qwen3` and `qwen3:8b`. A name with a path before it (`openai/gpt-x`) is the same as without. What a server calls
    by the path of a file, and an endpoint of a tuned model, can't be compared: they hold one model.

    Args:
        served: What the answer calls its model; empty where it calls it nothing.
        asked: What was asked for.
    """
    if not served or is_file(served) or "/endpoints/" in asked or _folded(served) == _folded(asked):
        return False
    served_path, asked_path = _folded(served).split("/"), _folded(asked).split("/")
    shared = min(len(served_path), len(asked_path))
    if served_path[-shared:-1] != asked_path[-shared:-1]:
        return True
    (served_name, served_version), (asked_name, asked_version) = _parts(served_path[-1]), _parts(asked_path[-1])
    return served_name != asked_name or not (
        served_version == asked_version or {served_version, asked_version} & {"", *_MOVING}
    )


def is_file(name: str) -> bool:
    """Whether a server calls its model by the path of a file: then the name says nothing of what was asked."""
    return name.startswith(("/", "./", "~")) or "\\" in name or name.lower().endswith((".gguf", ".bin", ".safetensors"))


def version_of(served: str) -> str:
    """A served model's name without the folders of a file and without Google's path."""
    name = served.replace("\\", "/").rpartition("/")[2] if is_file(served) else served
    return name.removeprefix("models/").removeprefix("publishers/google/models/")


def _folded(name: str) -> str:
    return name.casefold().removesuffix(":latest")


def _parts(name: str) -> tuple[str, str]:
    """A name's model and its version, empty where it names none."""
    match = _VERSION.search(name)
    if match:
        return name[: match.start()], (match["revision"] or match["version"]).replace("-", "")
    model, _, tag = name.partition(":")  # of Ollama
    return model, tag
