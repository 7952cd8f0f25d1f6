"""What an LLM is to silvertune: something that is connected to, and then answers one request at a time."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from silvertune.errors import UserError, check_number
from silvertune.interfaces import CheckResult, Traits


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        messages: The conversation so far; it ends with the user's turn.
        words: What may be answered as `label`.
        fields: The members of the JSON object to answer with, in order: `label`, perhaps `reason` and `confidence`.
        repeat: 0, 1, ...: the same question again; a sampling LLM takes it as its seed.
    """

    messages: tuple[Message, ...]
    words: tuple[str, ...]
    fields: tuple[str, ...]
    repeat: int = 0

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the answer."""
        kinds: dict[str, dict[str, Any]] = {
            "label": {"type": "string", "enum": list(self.words)},
            "reason": {"type": "string"},
            "confidence": {"type": "number"},
        }
        return {
            "type": "object",
            "properties": {name: kinds[name] for name in self.fields},
            "required": list(self.fields),
            "additionalProperties": False,
        }


@dataclass(frozen=True)
class Token:
    """A generated token, as UTF-8 bytes: a token may be a part of a character.

    Attributes:
        content: The bytes of the token.
        alternatives: Bytes of each token that could stand here -> its log probability; this token is among them.
    """

    content: bytes
    alternatives: Mapping[bytes, float]


@dataclass(frozen=True)
class Answer:
    """What came back, whatever it is worth.

    Attributes:
        finish: `stop`, `length` (cut off: the answer's own limit, or a prompt too long for the model) or `refused`.
        model: The model that answered, as it calls itself.
        asked: The model that was asked, where an answer of another one must not count; empty: any may answer.
        tokens_in: Tokens of the request; None where they are not told.
        tokens_out: Tokens of the answer; None where they are not told.
        tokens: The generated tokens, where the LLM tells their probabilities.
        probs: Word -> probability, where the LLM scores the words instead of generating one.
        failed_in: Tokens sent in attempts before it that failed and are paid for all the same.
        failed_out: Tokens received in such attempts.
    """

    text: str
    finish: Literal["stop", "length", "refused"]
    model: str
    tokens_in: int | None
    tokens_out: int | None
    tokens: tuple[Token, ...] = ()
    probs: Mapping[str, float] | None = None
    failed_in: int = 0
    failed_out: int = 0
    asked: str = ""


class TransientError(Exception):
    """No answer this time; asking again may help.

    Attributes:
        retry_after: Seconds that the server asks to be left alone.
        tokens_in: Tokens of the request that are paid for all the same.
        tokens_out: Tokens of the answer that are paid for all the same.
    """

    def __init__(self, message: str, retry_after: float | None = None, tokens_in: int = 0, tokens_out: int = 0) -> None:
        super().__init__(message)
        self.retry_after, self.tokens_in, self.tokens_out = retry_after, tokens_in, tokens_out


class RejectedError(Exception):
    """This request will not be answered however often it is asked; others may be."""


class UnusableError(UserError):
    """No request will be answered until the user mends something: a key, a quota, a model's name."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens; null where it is not known.

    Attributes:
        input: Of a request.
        output: Of an answer.
        as_of: The day on which somebody read them, as 2026-11-29; null: nobody says.
        batch_share: What a request in a batch costs, as a share of these prices.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"as_of", "batch_share"})

    input: float | None
    output: float | None
    as_of: str | None = None
    batch_share: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("input", self.input), ("output", self.output), ("batch_share", self.batch_share)):
            if value is not None:
                check_number(f"labeler.llm.<name>.price.{name}", value)
        if self.as_of is not None:
            try:
                date.fromisoformat(self.as_of)
            except (TypeError, ValueError):
                raise UserError(f"labeler.llm.<name>.price.as_of={self.as_of}: want a day such as 2026-11-29") from None

    def of_batches(self) -> "Price":
        """The prices of requests in batches."""
        input_, output = (None if price is None else price * self.batch_share for price in (self.input, self.output))
        return replace(self, input=input_, output=output)

    def age(self) -> str:
        """When the prices were read and how long ago that is, in words."""
        if self.as_of is None:
            return "the prices bear no date: set price.as_of"
        days = (date.today() - date.fromisoformat(self.as_of)).days
        return f"prices read on {self.as_of}, {max(days, 0)} day(s) ago"

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Dollars for so many tokens; an unknown price counts nothing."""
        return (tokens_in * (self.input or 0.0) + tokens_out * (self.output or 0.0)) / 1e6


@dataclass(frozen=True)
class Limits:
    """How hard an LLM is asked, by each process.

    Attributes:
        concurrency: Requests under way at a time.
        requests_per_minute: Evenly spread, null: no limit.
        tokens_per_minute: Evenly spread, null: no limit.
        timeout_s: For one attempt.
        retries: Attempts after the first.
        deadline_s: For a request with its retries.
        backoff_s: The first pause is up to so long, each further one up to twice the last, never above
            `longest_pause_s` unless the server asks for more.
    """

    concurrency: int
    requests_per_minute: float | None
    tokens_per_minute: float | None
    timeout_s: float
    retries: int
    deadline_s: float
    backoff_s: float
    longest_pause_s: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                check_number(f"labeler.llm.<name>.limits.{name}", value, above=name != "retries")


Ask = Callable[[Request], Awaitable[Answer]]


class LLM(Protocol):
    """An LLM, connected to for as long as it is asked. Holds no key: that is read when it connects."""

    @property
    def limits(self) -> Limits: ...

    @property
    def price(self) -> Price: ...

    @property
    def max_tokens(self) -> int:
        """The most tokens that an answer may have."""
        ...

    def identity(self) -> dict[str, Any]:
        """What can change its answers, beside the request: model, version, sampling parameters."""
        ...

    def connect(self) -> AbstractAsyncContextManager[Ask]:
        """What answers requests. Raises UnusableError; so do its answers, and TransientError and RejectedError."""
        ...

    def check(self) -> list[CheckResult]:
        """Packages, credentials, reachability and permissions, without a question that costs."""
        ...


@dataclass(frozen=True)
class LLMTraits(Traits):
    """Optional attributes of an LLM.

    Attributes:
        notes: What a person should know before it is asked, one line each, for `mode=plan`: that its model ends.
    """

    notes: tuple[str, ...] = ()


class BatchRefusedError(Exception):
    """No batch was made.

    Attributes:
        is_busy: Whether the provider takes one later: its limit of requests or of waiting tokens is reached.
        retry_after: Seconds that it asks to be left alone.
    """

    def __init__(self, message: str, *, is_busy: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.is_busy, self.retry_after = is_busy, retry_after


@dataclass(frozen=True)
class BatchStatus:
    """What a provider says of a batch.

    Attributes:
        state: `running`, or how it ended: `ended` with whatever results there are, `failed` without any.
        message: The provider's words; `cancelled` and `expired` where it ended so.
    """

    state: Literal["running", "ended", "failed"]
    message: str = ""


@dataclass(frozen=True)
class BatchResult:
    """What became of a request in a batch: as the answer to a single request, an HTTP status and a JSON body."""

    status: int
    body: Any


class Batches(Protocol):
    """A provider's batches: many requests at a time, cheaper, and answered within a day or so.

    The first four are asked from any thread. None of them tries anything again by itself.

    Attributes:
        most_requests: In one batch.
        most_bytes: Of the requests of one batch.
        body: Makes the body of a request in a batch.
        answer: Says what a result means. Raises as an LLM's answers do.
        probe: The answer to a question that was asked singly to see that the model answers, and which members of a
            request it takes.
    """

    @property
    def most_requests(self) -> int: ...

    @property
    def most_bytes(self) -> int: ...

    @property
    def body(self) -> Callable[[Request], Any]: ...

    @property
    def answer(self) -> Callable[[BatchResult], Answer]: ...

    @property
    def probe(self) -> Answer: ...

    def submit(self, label: str, bodies: Mapping[str, Any]) -> str:
        """Make a batch that carries the label, of request bodies by their names (40 of [a-z0-9]).

        Returns:
            The batch's name.

        Raises:
            BatchRefusedError: No batch was made.
            Exception: Anything else: nobody knows whether a batch was made.
        """
        ...

    def find(self, label: str, names: Collection[str], since: float | None) -> str | None:
        """The name of the batch that carries the label; None where there is none.

        Args:
            label: The label.
            names: Of its requests.
            since: When it was sent, in seconds since 1970; None: it may not have been sent at all.
        """
        ...

    def status(self, batch: str) -> BatchStatus: ...

    def collect(self, batch: str) -> Mapping[str, BatchResult]:
        """The results of a batch that has ended, by the names of the requests; without those that have none."""
        ...


@runtime_checkable
class BatchedLLM(LLM, Protocol):
    """An LLM that can be asked by batches.

    Attributes:
        batch: Whether it is.
        batch_poll_s: Seconds between two looks at a batch.
    """

    @property
    def batch(self) -> bool: ...

    @property
    def batch_poll_s(self) -> float: ...

    def batches(self) -> AbstractAsyncContextManager[Batches]:
        """The provider's batches. Raises UnusableError where no request will be answered."""
        ...

    def cancel_batch(self, batch: str) -> None:
        """Ask the provider, once, to end a batch. What it answered until then is kept, and paid for.

        Raises:
            BatchRefusedError: The provider does not end it.
            Exception: Anything else: nobody knows whether it will.
        """
        ...
