"""From what an LLM answered to a label, or to the reason why there is none. Nothing is guessed."""

import json
import math
import re
from dataclasses import dataclass

from silvertune.llms.interface import Answer, Request, Token

_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n\s*```\Z", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """status: as in `silvertune.votes`. word: the label's word where it is ok. probs: word -> probability.
    confidence: the one it claims, 0-1."""

    status: str
    word: str | None = None
    probs: dict[str, float] | None = None
    confidence: float | None = None


def read(answer: Answer, request: Request) -> Reading:
    """What `answer` says: one JSON object with exactly the request's fields, or no label at all.

    A code fence around the whole of it is taken off, as many models put one there. A word of the answers that merely
    stands somewhere in a sentence, in other letters, or in an object with other members is no label.
    """
    if answer.finish == "refused":
        return Reading("refused")
    text = answer.text.strip()
    fenced = _FENCE.match(text)
    try:
        content = json.loads(fenced[1] if fenced else text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        return Reading("truncated" if answer.finish == "length" else "parse_error")
    if not isinstance(content, dict) or set(content) != set(request.fields) or content["label"] not in request.words:
        return Reading("parse_error")
    confidence = content.get("confidence")
    if "confidence" in content and (
        isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1
    ):
        return Reading("parse_error")
    probs = dict(answer.probs) if answer.probs is not None else word_probs(answer.tokens, request.words)
    return Reading("ok", content["label"], probs, None if confidence is None else float(confidence))


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a member twice")
    return content


def word_probs(tokens: tuple[Token, ...], words: tuple[str, ...]) -> dict[str, float] | None:
    """The probability of each word, from the alternatives to the tokens that the label was written with.

    A word that leaves the written one at some token has the probability of what was written up to there, times that
    of the alternatives which it goes on with; what no word goes on with is left out, and the rest adds up to 1. An
    alternative that the API did not list (it lists the few likeliest) counts nothing. None where nothing is told.
    """
    text = "".join(token.text for token in tokens)
    # The last one: a reason before it may quote anything.
    place = list(re.finditer(r'"label"\s*:\s*"', text))
    if not place:
        return None
    start, probs = place[-1].end(), dict.fromkeys(words, 0.0)
    at, reached = 0, 1.0
    for token in tokens:
        begin, at = at, at + len(token.text)
        if at <= start or not token.alternatives:
            continue
        # What stands of the label before this token, and what of the token stands before the label.
        written, lead = text[start:begin] if begin > start else "", text[begin:start] if begin < start else ""
        going = 0.0
        for alternative, log_probability in token.alternatives.items():
            if not alternative.startswith(lead):
                continue
            rest = written + alternative[len(lead) :]
            fitting = [word for word in words if (f'{word}"').startswith(rest) or rest.startswith(f'{word}"')]
            share = reached * math.exp(log_probability)
            if len(fitting) == 1:
                probs[fitting[0]] += share
            elif alternative == token.text and len(fitting) > 1:
                going = share
        if not going:
            break
        reached = going
    total = sum(probs.values())
    return {word: value / total for word, value in probs.items()} if total > 0 else None
