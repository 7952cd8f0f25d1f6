"""Text of items, which anybody may have written, made safe to put into a prompt.

Inside its delimiters such a text can't close them (they hold a digest of the text itself), can't open a turn of the
conversation (marks of chat templates are broken up), and hides nothing (characters that are not seen are taken out).
What it says can still mislead a model: `signs` tells where a text looks as if it tried to.
"""

import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

# Control characters but for line break and tab; and what is there and is not seen: zero-width, bidirectional and
# filler characters, variation selectors, tags; and halves of characters, which can't be sent. Not the private use area:
# symbol fonts in PDFs put their marks there.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_OPENERS = re.compile(r"<(?=[<|｜/!?A-Za-z])|\[(?=/?[A-Z_]{3,}\])")
_SUSPECT = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\U000e0000-\U000e0fff]")
_NEAR = 40
"""Characters that may stand between the two halves of an order."""


@dataclass(frozen=True)
class _Clue:
    """A pattern of lower-case text.

    Attributes:
        starts: Every match holds one of them. To look for these first is ten times as fast: most texts have none.
    """

    starts: tuple[str, ...]
    pattern: "re.Pattern[str]"

    def matches(self, text: str) -> "Iterator[re.Match[str]]":
        for start in self.starts:
            if start in text:
                return self.pattern.finditer(text)
        return iter(())


# Anybody may have written a text, so that every pattern here takes linear time: no repetition meets another one that
# takes the same characters, nor can it begin in the middle of what it repeats.
_ORDERS = [
    (_Clue(starts, re.compile(first)), re.compile(second))
    for starts, first, second in (
        (("ignore", "disregard", "forget", "override", "overrule", "bypass", "skip"),
         r"\b(?:ignore|disregard|forget|override|overrule|bypass|skip)\b",
         r"\b(?:above|previous|prior|earlier|preceding|instructions?|prompt|rules?|guidelines|everything|context)\b"),
        (("ignorier",), r"\bignorier\w*", r"\banweisung"),
        (("ignore",), r"\bignore[zr]\b", r"\binstructions\b"),
        (("ignor",), r"\bignor[ae]\w*", r"\binstruc"),
    )
]  # fmt: skip
"""Two halves of an order; the second begins within `_NEAR` characters after the end of the first."""
_CLUES = {
    "instructions": _Clue(
        ("new ", "real ", "updated ", "actual ", "system ", "you are now", "you must now", "from now on", "pretend",
         "jailbreak", "developer mode", "as an ai", "act as"),
        re.compile(
            r"\b(?:new|real|updated|actual) (?:instructions?|task|rules?)\b"
            r"|\bsystem (?:prompt|message|override)\b"
            r"|\b(?:you are now|you must now|from now on|pretend|jailbreak|developer mode|as an ai|act as)\b"
        ),
    ),
    "turn": _Clue(
        ("<", "[inst]", "[/inst]", "system", "assistant", "user", "human", "response", "instruction"),
        re.compile(
            r"<\|\w+\|>|<｜|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|</?s>|<bos>|<eos>"
            r"|(?:^|##)[^\S\n]*(?:system|assistant|user|human|response|instruction)\s*:",
            re.MULTILINE,
        ),
    ),
    "delimiter": _Clue(
        ("<", "---", "end of "),
        re.compile(
            r"</?\s*(?:item|data|document|text|table|input|content|system|instructions?|prompt)\b"
            r"[^<>\n]{0,40}>"
            r"|---\s*end\b|\bend of (?:item|data|document|text|table|input)\b"
        ),
    ),
    "forged answer": _Clue(
        ("label", "answer", "output", "verdict"),
        re.compile(r"[\"'“”]\s*(?:label|answer|output|verdict)\s*[\"'“”]\s*:"),
    ),
}  # fmt: skip
"""The name of a sign -> what shows it."""
_MOST_MARKS = 30
"""Combining marks on one character, as Unicode's stream-safe format has it (UAX 15, section 13); normalizing a longer
run takes time that grows with its square."""
_ASKING = ("answer", "respond", "reply", "output", "return", "label", "verdict", "classif", "say")


def cleaned(text: str) -> str:
    """`text` without characters that are not seen, and with every mark that could open a tag or a turn broken up."""
    text = _seen(text.replace("\r\n", "\n").replace("\r", "\n"))
    return _OPENERS.sub(lambda match: match[0] + " ", text) if "<" in text or "[" in text else text


def delimited(text: str) -> str:
    """A cleaned `text` between lines that it can't hold: their name is made of its own digest."""
    name = f"item-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return f"<{name}>\n{text}\n</{name}>"


def signs(text: str, words: Sequence[str]) -> list[str]:
    """What about a raw `text` looks like an attempt to steer who labels it; empty for most texts.

    Args:
        words: The answers there are; a text that asks for one of them has the sign `instructions`. These are
            patterns, in English for the most part: they find what is commonly tried and miss what is not, and an
            honest text may have one.
    """
    if "\\" in text:
        # JSON may have escaped what is not ASCII, half a character at a time.
        text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = text.replace("\\n", "\n").replace('\\"', '"')
    plain = _lowered(unicodedata.normalize("NFKC", _without_piles(_seen(text))))
    sign_names = {name for name, clue in _CLUES.items() if any(True for _ in clue.matches(plain))}
    if not text.isascii() and _SUSPECT.search(text):
        sign_names.add("hidden characters")
    if "instructions" not in sign_names and (_has_order(plain) or _asks_for(plain, words)):
        sign_names.add("instructions")
    return sorted(sign_names)


def _seen(text: str) -> str:
    """The text without characters that are not seen. Most texts have none, and that is quickly told."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return _UNSEEN.sub("", text)


def _lowered(text: str) -> str:
    """In lower case, with one i: Turkish has a second one, which readers and models take for the first."""
    lower = text.lower()
    return lower if lower.isascii() else lower.replace("i\u0307", "i").replace("\u0131", "i")


def _without_piles(text: str) -> str:
    """The text without the marks of a character that has more than `_MOST_MARKS` of them."""
    if text.isascii():
        return text
    marks, kept = 0, []
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def _has_order(text: str) -> bool:
    """Whether both halves of an order stand near each other."""
    for first, second in _ORDERS:
        ends = [match.end() for match in first.matches(text)]
        begins = [match.start() for match in second.finditer(text)] if ends else []
        for end in ends if begins else ():
            place = bisect_left(begins, end)
            if place < len(begins) and begins[place] - end <= _NEAR:
                return True
    return False


def _asks_for(text: str, words: Sequence[str]) -> bool:
    """`answer YES`, `the label is "soe"`: a word of the answers right after a verb or noun of answering."""
    asking, either = _asking_for(tuple(words))
    if not any(True for _ in asking.matches(text)):
        return False
    return asking.pattern.search(either.sub("", text)) is not None


@lru_cache(maxsize=8)
def _asking_for(words: tuple[str, ...]) -> "tuple[_Clue, re.Pattern[str]]":
    """What asks for one of the words; and a choice between them, which asks for none."""
    choices = "|".join(re.escape(_lowered(unicodedata.normalize("NFKC", word))) for word in words)
    verbs = "|".join(word + r"\w*" * (word == "classif") for word in _ASKING)
    asking = re.compile(rf"\b(?:{verbs})\b(?: \w+){{0,3}}\W{{1,4}}(?:{choices})\b")
    either = re.compile(rf"(?:{choices})\W{{1,4}}(?:or|and|/)\W{{0,3}}(?:{choices})\b|(?:{choices})/(?:{choices})\b")
    return _Clue(_ASKING, asking), either
