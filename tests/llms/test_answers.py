import itertools
import json
import math
import unicodedata
from dataclasses import replace

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


def of_text(text: str, alternatives: dict[str, float]) -> Token:
    return Token(text.encode(), {other.encode(): math.log(share) for other, share in alternatives.items()})


def token(text: str, **others: float) -> Token:
    return of_text(text, {text: 1 - sum(others.values()), **others})


def test_probabilities_come_from_the_token_where_the_words_part() -> None:
    tokens = (token('{"label": "'), token("YES", NO=0.2), token('"}'))
    assert answers.word_probs(tokens, ("YES", "NO"), "YES") == pytest.approx({"YES": 0.8, "NO": 0.2})


def test_words_with_a_common_beginning_and_tokens_across_their_borders_are_told_apart() -> None:
    words = ("not soe", "not sure", "soe", "soe draft")
    tokens = (token('{"'), token('label":'), of_text(' "not', {' "not': 0.9, ' "soe': 0.1}),
              token(" s"), token("oe", ure=0.25), token('"}'))  # fmt: skip
    probs = answers.word_probs(tokens, words, "not soe")
    # "soe" and "soe draft" are not told apart by what the API listed: their share is left out.
    assert probs == pytest.approx({"not soe": 0.75, "not sure": 0.25, "soe": 0.0, "soe draft": 0.0})
    tokens = (token('{"label": "'), token("soe", x=0.01), of_text('"}', {'"}': 0.6, " draft": 0.4}))
    assert answers.word_probs(tokens, words, "soe")["soe"] == pytest.approx(0.6)  # type: ignore[index]


def test_a_quoted_label_in_the_reason_does_not_count() -> None:
    tokens = (token('{"reason": "'), token('"label": "'), token("NO", YES=0.4), token('", "label": "'),
              token("YES", NO=0.1), token('"}'))  # fmt: skip
    assert answers.word_probs(tokens, ("YES", "NO"), "YES")["YES"] == pytest.approx(0.9)  # type: ignore[index]


def test_no_probabilities_are_none() -> None:
    assert answers.word_probs((), ("YES", "NO"), "YES") is None
    assert answers.word_probs((token("hello"),), ("YES", "NO"), "YES") is None


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
def test_probabilities_of_one_token_words_are_those_of_their_tokens(weights: list[float]) -> None:
    words = ("a", "b", "c")
    probs = {word: weight / sum(weights) for word, weight in zip(words, weights, strict=True)}
    tokens = (token('{"label": "'), of_text("a", probs), token('"}'))
    assert answers.word_probs(tokens, words, "a") == pytest.approx(probs)


# ---------------------------------------------------------------------------- tokens that are no characters

WORDS = ("积极", "消极", "négatif", "👍🏽", "a b")
SPELLINGS = {
    "plain": lambda word: json.dumps({"label": word}, ensure_ascii=False),
    "escaped": lambda word: json.dumps({"label": word}),
    "NFD": lambda word: unicodedata.normalize("NFD", json.dumps({"label": word}, ensure_ascii=False)),
}


def cut(content: bytes, places: set[int]) -> list[bytes]:
    edges = [0, *sorted(place for place in places if 0 < place < len(content)), len(content)]
    return [content[start:end] for start, end in itertools.pairwise(edges)]


@given(
    st.sampled_from(WORDS),
    st.sampled_from(sorted(SPELLINGS)),
    st.sets(st.integers(1, 40)),
    st.floats(0.05, 0.95),
    st.sampled_from(["bytes", "replaced", "escaped bytes"]),
)
def test_the_answered_word_is_never_told_to_be_impossible(
    word: str, spelling: str, places: set[int], sure: float, shown: str
) -> None:
    text = SPELLINGS[spelling](word)
    other = WORDS[(WORDS.index(word) + 1) % len(WORDS)].encode()
    tokens = []
    for piece in cut(text.encode(), places):
        content = piece
        if shown == "replaced":
            content = piece.decode(errors="replace").encode()
        elif shown == "escaped bytes":
            content = piece.decode(errors="backslashreplace").encode()
        tokens.append(Token(content, {content: math.log(sure), other[:2]: math.log(1 - sure)}))
    reading = answers.read(said(text, tokens=tuple(tokens)), replace(ASKED, words=WORDS))
    assert (reading.status, reading.word) == ("ok", word)
    if reading.probs is not None:
        assert reading.probs[word] > 0
        assert sum(reading.probs.values()) == pytest.approx(1)
    if shown == "bytes":
        assert reading.probs is not None


def test_an_alternative_that_is_a_part_of_a_character_counts_for_the_word_that_goes_on_with_it() -> None:
    first = "积".encode()
    tokens = (
        of_text('{"label": "', {'{"label": "': 1.0}),
        Token(first[:2], {first[:2]: math.log(0.95), "消".encode(): math.log(0.05)}),
        Token(first[2:], {first[2:]: 0.0}),
        of_text('极"}', {'极"}': 1.0}),
    )
    assert answers.word_probs(tokens, ("积极", "消极"), "积极") == pytest.approx({"积极": 0.95, "消极": 0.05})


# ---------------------------------------------------------------------------- what models write around it


@pytest.mark.parametrize(
    "text",
    [
        '<think>\nIs it {"label": "NO"}?\n</think>\n\n{"label": "YES"}',
        'It seems so.\n</think>\n{"label": "YES"}',
        '<thinking>hm</thinking>```json\n{"label": "YES"}\n```',
        '[THINK]<think>no</think>[/THINK]{"label": "YES"}',
        '<|channel>thought\nIs it {"label": "NO"}?<channel|>{"label": "YES"}<turn|>',
        '<unused94>thought\nhm<unused95>{"label": "YES"}',
        '<|thinking|>hm<|/thinking|>{"label": "YES"}',
        '<|think_start|>hm<|think_end|>{"label": "YES"}',
        '<｜begin▁of▁thinking｜>hm<｜end▁of▁thinking｜>{"label": "YES"}',
        '<scratchpad>hm</scratchpad>\n{"label": "YES"}',
        '<think/>{"label": "YES"}',
        '<think>hm< /think>{"label": "YES"}',
        'analysisIs it {"label": "NO"}? No.assistantfinal{"label": "YES"}',
        'assistantfinal json\n{"label": "YES"}',
        '{"label": "YES"}<｜end▁of▁sentence｜>',
        '{"label": "YES"}[EOS]',
        '```json\n{"label": "YES"}',
        '\u200b{"label": "YES"}',
        '{"label": "YES"}\n<think>Was it {"label": "NO"}?</think>',
        '<|channel|>analysis<|message|>hm<|end|><|channel|>final<|message|>{"label": "YES"}',
        '```JSON\n{"label": "YES"}```',
        '\ufeff{"label": "YES"}',
        '<seed:think>hm</seed:think>{"label": "YES"}',
        '<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>{"label": "YES"}<|END_RESPONSE|>',
        '<think>hm</think><answer>{"label": "YES"}</answer>',
        '<|begin_of_thought|>hm<|end_of_thought|>\n<|begin_of_solution|>\n{"label": "YES"}\n<|end_of_solution|>',
        '<Reasoning>a <reasoning>b</reasoning></Reasoning>\n<answer>\n```json\n{"label": "YES"}\n```\n</answer>',
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>"
        '{"label": "YES"}<|return|>',
        '{"label": "YES"}<|im_end|>',
        '{"label": "YES"}\n</s><|endoftext|>',
        '```json\n{"label": "YES"}\n```\nThe text is a schedule, as its columns are visits.',
        '<think>hm</think>\n```\n{"label": "YES"}\n```\n\n**Why**: it is one.',
    ],
)
def test_thinking_and_a_fence_are_taken_off(text: str) -> None:
    assert answers.read(said(text), ASKED) == answers.Reading("ok", "YES")


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"label": "YES"}\n```\nOr rather:\n```json\n{"label": "NO"}\n```',
        '```json\n{"label": "YES"}\n```\nOr rather {"label": "NO"}',
        'It says:\n```json\n{"label": "YES"}\n```',
        '<think>{"label": "YES"}',
        '{"label": "YES"}<|END_THINKING|>',
        '{"label": "YES"}<|think_end|>',
        '{"label": "YES"}</think>',
        '{"label": "YES"}<think>or no',
        "<think>hm</think>",
        'no{"label": "YES"}<think>hm</think>',
        '```json\n{"label": "YES"}\n```\n{"label": "NO"}',
        "assistantfinal",
        'The text says <b>so</b>{"label": "YES"}',
        '<answer>{"label": "YES"}',
    ],
)
def test_an_answer_that_says_two_things_or_quotes_one_is_no_label(text: str) -> None:
    assert answers.read(said(text), ASKED) == answers.Reading("parse_error")


def test_thinking_before_an_object_that_quotes_its_end_is_taken_off() -> None:
    text = '<think>hm</think>{"reason": "it says </think> and stops", "label": "NO", "confidence": 0.5}'
    assert answers.read(said(text), ALL) == answers.Reading("ok", "NO", None, 0.5)


def test_a_mark_of_thinking_inside_the_object_stays() -> None:
    text = '{"reason": "it says </think>", "label": "NO", "confidence": 0.5}'
    assert answers.read(said(text), ALL) == answers.Reading("ok", "NO", None, 0.5)


def test_thinking_that_was_cut_off_is_truncated_and_thinking_alone_is_no_answer() -> None:
    assert answers.read(said("<think>It could be", "length"), ASKED).status == "truncated"
    assert answers.read(said('<think>{"label": "YES"}</think>'), ASKED).status == "parse_error"


@pytest.mark.parametrize(
    ("label", "words", "word"),
    [
        ("1", ("0", "1"), "1"), ("1.0", ("0", "1"), "1"), ("0", ("0.0", "1.0"), "0.0"),
        ("true", ("True", "False"), "True"),
        ("false", ("false", "true"), "false"), ("true", ("1", "0"), None), ("1", ("True", "False"), None),
        ("1.1", ("1.1", "1.10"), "1.1"), ("1.10", ("1.10", "2"), "1.10"), ("7", ("007", "7"), "7"),
        ("7", ("007", "07"), None),
        ("null", ("null", "x"), None), ('"1"', ("0", "1"), "1"), ("[1]", ("0", "1"), None),
    ],
)  # fmt: skip
def test_a_number_or_a_truth_value_is_the_word_for_it(label: str, words: tuple[str, ...], word: str | None) -> None:
    assert answers.read(said(f'{{"label": {label}}}'), replace(ASKED, words=words)).word == word


def test_a_word_is_read_in_whatever_unicode_form() -> None:
    asked = replace(ASKED, words=("éloge", "réclamation"))
    for form in ("NFC", "NFD"):
        text = json.dumps({"label": unicodedata.normalize(form, "réclamation")})
        assert answers.read(said(text), asked).word == "réclamation"


@pytest.mark.parametrize(
    ("label", "words", "word"),
    [
        ("1.10", ("1.1", "1.10"), "1.10"), ("1.1", ("1.1", "1.10"), "1.1"), ("1.100", ("1.1", "1.10"), None),
        ("40E4", ("4E5", "40E4"), "40E4"), ("1", ("1", "1.0"), "1"), ("1.0", ("0", "1"), "1"), ("2", ("0", "1"), None),
        ("NaN", ("nan", "1"), None), ("9" * 400, ("0", "1"), None),
    ],
)  # fmt: skip
def test_a_number_is_the_word_that_is_spelt_like_it_or_the_only_one_of_its_value(
    label: str, words: tuple[str, ...], word: str | None
) -> None:
    request = Request((Message("user", "?"),), words, ("label",))
    assert answers.read(said(f'{{"label": {label}}}'), request).word == word
