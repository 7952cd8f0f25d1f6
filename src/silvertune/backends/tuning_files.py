"""The files that a managed tuning job reads, held to the provider's limits before anything is uploaded."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from silvertune.errors import UserError, check_number

_KEY = "backend.service.limits"


@dataclass(frozen=True)
class TuningLimits:
    """What a provider takes at most.

    Attributes:
        tokens_per_example: Longer examples would be dropped.
        examples: In the training file.
        validation_examples: In the validation file.
        file_mb: Megabytes of a file, of 1,000,000 bytes.
        as_of: The day on which somebody read them, as 2026-11-28.
    """

    tokens_per_example: int
    examples: int
    validation_examples: int
    file_mb: float
    as_of: str

    def __post_init__(self) -> None:
        for entry in fields(self):
            if entry.name != "as_of":
                check_number(f"{_KEY}.{entry.name}", getattr(self, entry.name), above=True)

    def check(self, what: str, lines: Sequence[bytes], *, most: str, bytes_per_token: float) -> None:
        """Refuse a file that the provider would refuse, or drop lines of.

        Args:
            what: Which file it is, for messages.
            lines: Its lines.
            most: Which of the limits says how many there may be.
            bytes_per_token: See `silvertune.backends.Vertex`.

        Raises:
            UserError: It is too large, or a line is no example: roles user and model in turn, the last one model, each
                with a text.
        """
        limit = getattr(self, most)
        if len(lines) > limit:
            advice = "; lower model.validation_fraction" * (most == "validation_examples")
            raise UserError(f"{_KEY}.{most}={limit} (read on {self.as_of}): {what} has {len(lines)} examples{advice}")
        size = sum(map(len, lines)) / 1e6
        if size > self.file_mb:
            raise UserError(f"{_KEY}.file_mb={self.file_mb:g} (read on {self.as_of}): {what} has {size:.0f} MB")
        for number, line in enumerate(lines, start=1):
            if fault := _fault(line):
                raise UserError(f"{what}, line {number}: {fault}")
            tokens = len(line) / bytes_per_token
            if tokens > self.tokens_per_example:
                raise UserError(
                    f"{_KEY}.tokens_per_example={self.tokens_per_example} (read on {self.as_of}): {what}, line "
                    f"{number} may have {tokens:.0f} (backend.service.bytes_per_token={bytes_per_token:g}); lower "
                    "model.max_item_tokens"
                )


def _fault(line: bytes) -> str:
    """What is wrong with an example; empty where nothing is."""
    try:
        example = json.loads(line)
    except ValueError:
        return "is no JSON"
    turns: Any = example.get("contents") if isinstance(example, dict) else None
    if not isinstance(turns, list) or len(turns) < 2:
        return "want contents with a question and an answer"
    roles = [turn.get("role") for turn in turns]
    if roles != ["user", "model"] * (len(roles) // 2):
        return f"want roles user and model in turn, the last one model, and they are {', '.join(map(str, roles))}"
    system = example.get("systemInstruction", {"parts": [{"text": "none"}]})
    for turn in (*turns, system):
        if not all(isinstance(part.get("text"), str) and part["text"] for part in turn.get("parts") or [{}]):
            return "want a text in each part"
    return ""


def digest(lines: Sequence[bytes]) -> str:
    """SHA-256 of a file's content, hex."""
    content = hashlib.sha256()
    for line in lines:
        content.update(line)
    return content.hexdigest()
