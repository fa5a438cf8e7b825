"""`ts.torch_handler.contractions`: what English contracts, written out."""

from __future__ import annotations

from collections.abc import Iterator

_NOT = {
    "ai": "is", "are": "are", "could": "could", "did": "did", "does": "does", "do": "do",
    "had": "had", "has": "has", "have": "have", "is": "is", "may": "may", "might": "might",
    "must": "must", "need": "need", "ought": "ought", "sha": "shall", "should": "should",
    "was": "was", "were": "were", "wo": "will", "would": "would",
}  # fmt: skip
"""Before n't."""
_NOT_HAVE = ("could", "had", "might", "must", "need", "ought", "sha", "should", "wo", "would")
"""Before n't've."""

_WORDS = {"d": "would", "ll": "will", "m": "am", "re": "are", "s": "is", "ve": "have"}
_ENDINGS = {
    "I": "d d've ll ll've m ve",
    "could": "ve",
    "he": "d d've ll ll've s",
    "how": "ll s",
    "it": "d d've ll ll've s",
    "might": "ve",
    "must": "ve",
    "she": "d d've ll ll've s",
    "should": "ve",
    "so": "ve",
    "that": "d d've s",
    "there": "d d've s",
    "they": "d d've ll ll've re ve",
    "to": "ve",
    "we": "d d've ll ll've re ve",
    "what": "ll ll've re s ve",
    "when": "s ve",
    "where": "s ve",
    "who": "ll ll've s ve",
    "why": "s ve",
    "will": "ve",
    "would": "ve",
    "you": "d d've ll ll've re ve",
}
"""What may follow an apostrophe."""

_IRREGULAR = {
    "'cause": "because",
    "can't": "cannot",
    "can't've": "cannot have",
    "how'd": "how did",
    "how'd'y": "how do you",
    "let's": "let us",
    "ma'am": "madam",
    "o'clock": "of the clock",
    "sha'n't": "shall not",
    "so's": "so as",
    "where'd": "where did",
    "y'all": "you all",
    "y'all'd": "you all would",
    "y'all'd've": "you all would have",
    "y'all're": "you all are",
    "y'all've": "you all have",
}


def _all() -> Iterator[tuple[str, str]]:
    for stem, verb in _NOT.items():
        yield f"{stem}n't", f"{verb} not"
    for stem in _NOT_HAVE:
        yield f"{stem}n't've", f"{_NOT[stem]} not have"
    for subject, endings in _ENDINGS.items():
        for ending in endings.split():
            words = " ".join([subject, *(_WORDS[part] for part in ending.split("'"))])
            yield f"{subject}'{ending}", words
            if subject == "I":
                yield f"i'{ending}", words.lower()
    yield from _IRREGULAR.items()


CONTRACTION_MAP = dict(sorted(_all()))
"""Contraction → its words."""
