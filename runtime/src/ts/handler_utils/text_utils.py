"""`ts.handler_utils.text_utils`: words and n-grams of plain English, without torchtext."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

Tokenizer = Callable[[str], list[str]]

_APART = {"'": " '  ", **{mark: f" {mark} " for mark in ".,()!?"}}
_AWAY = {'"': "", ";": " ", ":": " "}
_MARKS = str.maketrans(_APART | _AWAY)


def ngrams_iterator(token_list: Sequence[str], ngrams: int) -> Iterator[str]:
    """Yield the tokens, then every two neighbours joined by a space, and so on up to `ngrams`."""
    yield from token_list
    for length in range(2, ngrams + 1):
        for start in range(len(token_list) - length + 1):
            yield " ".join(token_list[start : start + length])


def get_tokenizer(tokenizer: str | Tokenizer | None, language: str = "en") -> Tokenizer:
    """Return the function behind a tokenizer's name.

    None splits at white space; "basic_english" also lowers the case, sets punctuation apart and
    drops quotation marks, colons and semicolons; a function is its own tokenizer.

    Raises:
        ValueError: no such tokenizer, or not for that language.
    """
    if tokenizer is None:
        return str.split
    if callable(tokenizer):
        return tokenizer
    if tokenizer != "basic_english":
        raise ValueError(f"no tokenizer {tokenizer!r}: there is basic_english, or None to split")
    if language != "en":
        raise ValueError(f"basic_english reads English (en), not {language!r}")
    return _basic_english


def _basic_english(line: str) -> list[str]:
    return line.lower().replace("<br />", " ").translate(_MARKS).split()
