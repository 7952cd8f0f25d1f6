"""From what an LLM answered to a label, or to the reason why there is none. Nothing is guessed."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

from silvertune.llms.interface import Answer, Request, Token

_FENCE = re.compile(r"```(?:json)?\s(.*?)(?:```[^`{}]*)?\Z", re.DOTALL | re.IGNORECASE)
"""A fence with the answer, and perhaps words after it that are no other answer. Some servers end it there."""
_THOUGHTS = r"(?:think|thought|reason|reflect|analy|scratch|monologue|deliberat)"
_END_OF_THINKING = re.compile(
    rf"<\s?[|｜]?\s?/[\w:.|-]{{0,20}}{_THOUGHTS}[\w:.|-]{{0,20}}>"
    rf"|<[|｜]?end[\w▁]{{0,10}}{_THOUGHTS}\w{{0,10}}[|｜]?>|<[|｜]?{_THOUGHTS}\w{{0,10}}[_▁]end[|｜]?>"
    rf"|<[\w:]{{0,10}}{_THOUGHTS}\w{{0,10}}\s?/>"
    r"|\[/THINK\]|◁/think▷|<channel\|>|<unused95>"
    r"|<\|channel\|>\s{0,3}final\s{0,3}(?:<\|constrain\|>\s{0,3}\w{0,10}\s{0,3})?<\|message\|>"
    r"|assistantfinal(?:\s?json)?(?=\s{0,3}[{`])",
    re.IGNORECASE,
)
"""What models write between their thinking and their answer. Some chat templates open the block themselves.

The last three lines: Mistral's and Kimi's, Gemma's and MedGemma's; gpt-oss's, with its marks and without them."""
_BEGIN_OF_THINKING = re.compile(
    rf"<[|｜]?(?!end|\w{{0,20}}[_▁]end)[\w:▁]{{0,10}}{_THOUGHTS}\w{{0,10}}[|｜]?>|\[THINK\]|◁think▷", re.IGNORECASE
)
_INVISIBLE = "\ufeff\u200b\u2060"
_MOST_ENDS = 20
"""So many marks of the end of thinking are tried, the first ones: more stand in an answer that repeats a text."""
_WRAPPED = re.compile(
    r"(?:<(answer|response|output|solution|result|final)>|<\|begin_of_solution\|>|<\|START_RESPONSE\|>)"
    r"(.*)"
    r"(?:</\1>|<\|end_of_solution\|>|<\|END_RESPONSE\|>)",
    re.DOTALL | re.IGNORECASE,
)
_STOPS = re.compile(
    r"(?:\s*(?:<[|｜](?!end_of_solution|END_RESPONSE|\w{0,20}think|\w{0,20}thought)[\w▁]{1,30}[|｜]>"
    r"|</s>|<eos>|\[EOS\]|<end_of_(?:turn|utterance)>|<turn\|>)){1,4}\Z",
    re.IGNORECASE,
)
"""Marks of the end of a turn, which some servers leave in the text."""


@dataclass(frozen=True)
class Reading:
    """What an answer says.

    Attributes:
        status: As in `silvertune.votes`.
        word: The label's word, where the status is `ok`.
        probs: Word -> probability, where the LLM tells probabilities; the answered word has more than 0.
        confidence: What the LLM claims, 0-1.
    """

    status: str
    word: str | None = None
    probs: dict[str, float] | None = None
    confidence: float | None = None


def read(answer: Answer, request: Request) -> Reading:
    """Read an answer: one JSON object with exactly the request's fields, or no label at all.

    Thinking before the object is taken off, and so is a code fence around it, with the words after the fence. A word
    of the answers that merely stands somewhere in a sentence, in other letters, or in an object with other members is
    no label. A number or a truth value is a label where the answers have a word for it.

    Args:
        answer: What came back.
        request: What was asked.

    Returns:
        The label, or the status that says why there is none.
    """
    if answer.finish == "refused":
        return Reading("refused")
    content = _object_in(answer.text)
    if content is None:
        return Reading("truncated" if answer.finish == "length" else "parse_error")
    if set(content) != set(request.fields):
        return Reading("parse_error")
    word = _word(content["label"], request.words)
    confidence = _share(content.get("confidence"))
    if word is None or ("confidence" in content and confidence is None):
        return Reading("parse_error")
    probs = dict(answer.probs) if answer.probs is not None else word_probs(answer.tokens, request.words, word)
    return Reading("ok", word, probs, confidence)


def _object_in(text: str) -> dict[str, object] | None:
    """The JSON object that an answer is, with or without thinking before it; None where it is none."""
    text = text.strip().strip(_INVISIBLE).strip()
    text = text[:-200] + _STOPS.sub("", text[-200:])
    ends = [match.end() for match in islice(_END_OF_THINKING.finditer(text), _MOST_ENDS)]
    if ends and ends[-1] == len(text) and (thoughts := _BEGIN_OF_THINKING.search(text)) and thoughts.start():
        return _object(text[: thoughts.start()].strip())  # it thinks after it has answered
    return next((content for end in (0, *ends[::-1]) if (content := _object(text[end:].strip())) is not None), None)


def _object(text: str) -> dict[str, object] | None:
    wrapped = _WRAPPED.fullmatch(text)
    text = wrapped[2].strip() if wrapped else text
    fenced = _FENCE.match(text) if text.startswith("```") else None
    try:
        content = json.loads(
            fenced[1] if fenced else text, object_pairs_hook=_without_duplicates, parse_int=_Number, parse_float=_Number
        )
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


class _Number(float):
    """A number of JSON that knows how it is written: 1.10 and 1.1 may be two classes."""

    def __init__(self, spelling: str) -> None:
        self.spelling = spelling


def _word(label: object, words: Sequence[str]) -> str | None:
    """The word that a JSON value is: in whatever Unicode form, or written as a number or a truth value."""
    if isinstance(label, str):
        same = [word for word in words if _nfc(word) == _nfc(label)]
    elif isinstance(label, bool):
        same = [word for word in words if word.lower() == str(label).lower()]
    elif isinstance(label, _Number):
        same = [word for word in words if word == label.spelling] or [word for word in words if _number(word) == label]
    else:
        return None
    exact = [word for word in same if word == label]
    return exact[0] if exact else same[0] if len(same) == 1 else None


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _number(text: str) -> float | None:
    try:
        return float(text) if text.isascii() else None
    except ValueError:
        return None


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a member twice")
    return content


def word_probs(tokens: Sequence[Token], words: Sequence[str], answered: str) -> dict[str, float] | None:
    """The probability of each word, from the alternatives to the tokens that the label was written with.

    A word that leaves the answered one at some token has the probability of what was written up to there, times that
    of the alternatives which it goes on with. What no word goes on with is left out, and the rest adds up to 1. An
    alternative that the API did not list (it lists the few likeliest) counts nothing.

    Args:
        tokens: The generated tokens.
        words: What could be answered.
        answered: The word that was answered.

    Returns:
        Word -> probability. None where the tokens tell none, and where they do not spell the answered word: an API
        that garbles parts of characters would give it the probability 0.
    """
    written = b"".join(token.content for token in tokens)
    # The last one: a reason before it may quote anything.
    places = list(re.finditer(rb'"label"\s*:\s*"', written))
    spelling = _spelling(written[places[-1].end() :], answered) if places else None
    if spelling is None:
        return None
    endings = {word: spelling(word) + b'"' for word in words}
    start, probs = places[-1].end(), dict.fromkeys(words, 0.0)
    at, reached = 0, 1.0
    for token in tokens:
        begin, at = at, at + len(token.content)
        if at <= start or not token.alternatives:
            continue
        # What stands of the label before this token, and what of the token stands before the label.
        before, lead = written[start:begin] if begin > start else b"", written[begin:start] if begin < start else b""
        if _is_alone(token) and _parts_words(before + token.content[len(lead) :], endings):
            return None
        going = 0.0
        for alternative, log_probability in token.alternatives.items():
            if not alternative.startswith(lead):
                continue
            rest = before + alternative[len(lead) :]
            fitting = [word for word, ending in endings.items() if ending.startswith(rest) or rest.startswith(ending)]
            share = reached * math.exp(min(log_probability, 0.0))
            if len(fitting) == 1:
                probs[fitting[0]] += share
            elif alternative == token.content and len(fitting) > 1:
                going = share
        if not going:
            break
        reached = going
    total = sum(probs.values())
    if not probs[answered] > 0 or not math.isfinite(total):
        return None
    return {word: value / total for word, value in probs.items()}


def _is_alone(token: Token) -> bool:
    """Whether the API tells of no other token, though this one is not certain: what else was likely is not known."""
    return len(token.alternatives) == 1 and not max(token.alternatives.values()) > math.log(0.99)


def _parts_words(written: bytes, endings: Mapping[str, bytes]) -> bool:
    """Whether what stands of the label leaves out a word."""
    return not all(ending.startswith(written) or written.startswith(ending) for ending in endings.values())


def _spelling(label: bytes, answered: str) -> Callable[[str], bytes] | None:
    """How words are spelt in the JSON of an answer that begins with `label`; None where that is not `answered`."""
    spellings = [partial(_in_json, form=form, escaped=escaped) for form in _FORMS for escaped in (False, True)]
    return next((spelling for spelling in spellings if label.startswith(spelling(answered) + b'"')), None)


_FORMS: tuple[Literal["NFC", "NFD"] | None, ...] = (None, "NFC", "NFD")
"""Unicode forms that a word may be written in; None is the task's own."""


def _in_json(word: str, *, form: Literal["NFC", "NFD"] | None, escaped: bool) -> bytes:
    text = word if form is None else unicodedata.normalize(form, word)
    return json.dumps(text, ensure_ascii=escaped)[1:-1].encode("utf-8", "surrogatepass")
