import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.llms import answers
from silvertune.llms.interface import Answer, Message, Request, Token

ASKED = Request((Message("user", "?"),), ("YES", "NO"), ("label",))
ALL = Request((Message("user", "?"),), ("YES", "NO"), ("reason", "label", "confidence"))


def said(text: str, finish: str = "stop", tokens: tuple[Token, ...] = ()) -> Answer:
    return Answer(text, finish, "m", 1, 1, tokens)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ['{"label": "YES"}', ' {"label":"YES"}\n', '```json\n{"label": "YES"}\n```'])
def test_an_answer_as_asked_for_is_read(text: str) -> None:
    assert answers.read(said(text), ASKED) == answers.Reading("ok", "YES")


@pytest.mark.parametrize(
    "text",
    [
        "YES", '"YES"', "", "null", "[]", '{"label": "yes"}', '{"label": "MAYBE"}', '{"label": ["YES"]}',
        '{"label": true}', '{"answer": "YES"}', '{"label": "YES", "why": "x"}', 'The answer is {"label": "YES"}',
        '{"label": "YES"} {"label": "NO"}', '{"label": "NO", "label": "YES"}', '{"label": "YES"', "{" * 100_000,
        '{"label": " YES"}', '{"label": NaN}',
    ],
)  # fmt: skip
def test_anything_else_is_no_label(text: str) -> None:
    assert answers.read(said(text), ASKED) == answers.Reading("parse_error")


@given(st.text())
def test_no_text_makes_it_fail_or_gives_a_label_that_is_not_there(text: str) -> None:
    reading = answers.read(said(text), ASKED)
    assert (reading.status == "ok") == (reading.word is not None)
    assert reading.word is None or json.dumps(reading.word) in text


def test_what_was_cut_off_or_refused_says_so() -> None:
    assert answers.read(said('{"label": "Y', "length"), ASKED).status == "truncated"
    assert answers.read(said('{"label": "YES"}', "length"), ASKED).word == "YES"
    assert answers.read(said('{"label": "YES"}', "refused"), ASKED) == answers.Reading("refused")


@pytest.mark.parametrize("confidence", ["1.5", "-0.1", '"0.5"', "true", "null", "NaN"])
def test_a_confidence_that_is_none_is_no_answer(confidence: str) -> None:
    good = '{"reason": "x", "label": "NO", "confidence": %s}'
    assert answers.read(said(good % "0.7"), ALL) == answers.Reading("ok", "NO", None, 0.7)
    assert answers.read(said(good % confidence), ALL).status == "parse_error"


def token(text: str, **others: float) -> Token:
    return Token(text, {text: math.log(1 - sum(others.values())), **{k: math.log(v) for k, v in others.items()}})


def test_probabilities_come_from_the_token_where_the_words_part() -> None:
    tokens = (token('{"label": "'), token("YES", NO=0.2), token('"}'))
    assert answers.word_probs(tokens, ("YES", "NO")) == pytest.approx({"YES": 0.8, "NO": 0.2})


def test_words_with_a_common_beginning_and_tokens_across_their_borders_are_told_apart() -> None:
    words = ("not soe", "not sure", "soe", "soe draft")
    tokens = (token('{"'), token('label":'), Token(' "not', {' "not': math.log(0.9), ' "soe': math.log(0.1)}),
              token(" s"), token("oe", ure=0.25), token('"}'))  # fmt: skip
    probs = answers.word_probs(tokens, words)
    # "soe" and "soe draft" are not told apart by what the API listed: their share is left out.
    assert probs == pytest.approx({"not soe": 0.75, "not sure": 0.25, "soe": 0.0, "soe draft": 0.0})
    tokens = (token('{"label": "'), token("soe", x=0.01), Token('"}', {'"}': math.log(0.6), " draft": math.log(0.4)}))
    assert answers.word_probs(tokens, words)["soe"] == pytest.approx(0.6)  # type: ignore[index]


def test_a_quoted_label_in_the_reason_does_not_count() -> None:
    tokens = (token('{"reason": "'), token('"label": "'), token("NO", YES=0.4), token('", "label": "'),
              token("YES", NO=0.1), token('"}'))  # fmt: skip
    assert answers.word_probs(tokens, ("YES", "NO"))["YES"] == pytest.approx(0.9)  # type: ignore[index]


def test_no_probabilities_are_none() -> None:
    assert answers.word_probs((), ("YES", "NO")) is None
    assert answers.word_probs((token("hello"),), ("YES", "NO")) is None


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
def test_probabilities_of_one_token_words_are_those_of_their_tokens(weights: list[float]) -> None:
    words = ("a", "b", "c")
    probs = {word: weight / sum(weights) for word, weight in zip(words, weights, strict=True)}
    tokens = (token('{"label": "'), Token("a", {word: math.log(p) for word, p in probs.items()}), token('"}'))
    assert answers.word_probs(tokens, words) == pytest.approx(probs)
