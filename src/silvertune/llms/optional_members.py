"""Members of a request that a server may do without: left out where it refuses them, which a question of ours shows."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from silvertune.llms import untrusted_text
from silvertune.llms.interface import Answer, Ask, Limits, Message, RejectedError, Request, UnusableError
from silvertune.llms.rate_limits import GaveUpError, RateLimiter

PROBE = Request(
    (
        Message(
            "system", 'Say whether a text is a or b. Answer with one JSON object: {"label": "a"} or {"label": "b"}.'
        ),
        Message("user", untrusted_text.delimited("a short text")),
    ),
    ("a", "b"),
    ("label",),
    repeat=1,
)
"""A question like those about items, whose words no item chose: by it a server shows which members it takes."""
Post = Callable[[Request, frozenset[str]], Awaitable[Answer]]


class SuspectError(Exception):
    """An error that names an optional member of the request: the server may not take it, or it quotes the request.

    Attributes:
        member: The member that it names.
        failure: What the error is where the server takes the member.
    """

    def __init__(self, member: str, failure: Exception) -> None:
        super().__init__(str(failure))
        self.member, self.failure = member, failure


class OptionalMembers:
    """Sends requests without the members that their server has refused; one object for each connection.

    Args:
        model: The model's name, for what is said.
        post: Sends a request without some members; raises SuspectError where the server names one that was sent.
        settings: Members that are settings of the user's -> what to say of them. A refused one is left out of no
            request, but stops the labelling.
    """

    def __init__(self, model: str, post: Post, settings: Mapping[str, str]) -> None:
        self.model, self.post, self.settings = model, post, settings
        self.without: set[str] = set()
        self.taken: set[str] = set()
        self.probing = asyncio.Lock()
        self.probes: list[Answer] = []

    async def ask(self, request: Request) -> Answer:
        """The answer to a request. Raises what `post` raises but SuspectError, and UnusableError.

        Questions of ours that were answered are paid for with the next answer.
        """
        while True:
            sent = frozenset(self.without)
            try:
                answer = await self.post(request, sent)
                if not self.probes:
                    return answer
                probes, self.probes = self.probes, []
                return replace(
                    answer,
                    failed_in=answer.failed_in + sum(probe.tokens_in or 0 for probe in probes),
                    failed_out=answer.failed_out + sum(probe.tokens_out or 0 for probe in probes),
                )
            except SuspectError as error:
                async with self.probing:
                    if error.member not in self.without | self.taken:
                        await self._find_out(error)
                if error.member in sent or error.member in self.taken:
                    raise error.failure from None

    async def _find_out(self, error: SuspectError) -> None:
        if not await self._is_refused(error.member):
            self.taken.add(error.member)
            return
        if error.member in self.settings:
            raise UnusableError(f"{self.settings[error.member]} ({error.failure})")
        self.without.add(error.member)
        print(f"silvertune: {self.model} does not take {error.member}; asking without it", file=sys.stderr)

    async def _is_refused(self, member: str) -> bool:
        """Whether the server refuses a member of the request: of a question of ours, whose words no item chose."""
        without = frozenset(self.without)
        try:
            self.probes.append(await self.post(PROBE, without))
        except SuspectError:
            pass
        except RejectedError:
            return False
        else:
            return False
        try:
            self.probes.append(await self.post(PROBE, without | {member}))
        except RejectedError:
            return False
        except SuspectError as error:
            return error.member != member  # it names another member now, which is probed next
        return True


async def probed(ask: Ask, model: str, limits: Limits) -> Answer:
    """The answer to a question of ours: it shows that a model answers, and which members of a request it takes.

    Args:
        ask: What asks it.
        model: Its name, for messages.
        limits: How hard it is asked.

    Raises:
        UnusableError: It does not answer.
    """
    try:
        return await RateLimiter(limits).ask(ask, PROBE, 0)
    except GaveUpError as error:
        raise UnusableError(f"labeler.llm.<name>: {model} does not answer ({error})") from None
