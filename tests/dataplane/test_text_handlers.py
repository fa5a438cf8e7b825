"""The default handler of texts, and the pieces that handlers of texts take from it."""

import sys

import pytest
import torch

from tests.handlers import process_as_it_was
from tests.torch_models import LINEAR, TEXTS, VOCABULARY, eager, saved
from ts.handler_utils.text_utils import get_tokenizer, ngrams_iterator
from ts.torch_handler.contractions import CONTRACTION_MAP
from ts.torch_handler.text_classifier import TextClassifier
from ts.torch_handler.text_handler import TextHandler
from ts.torch_handler.unit_tests.test_utils.mock_context import MockContext

LABELS = '{"0": "bad", "1": "fair", "2": "good"}'


@pytest.fixture(autouse=True)
def _restored():
    with process_as_it_was():
        yield


@pytest.fixture
def make(tmp_path):
    def of(vocabulary=VOCABULARY, code=TEXTS, **files):
        named = {"source_vocab__pt": saved(vocabulary), "index_to_name__json": LABELS, **files}
        texts = eager(code, **named)
        texts.write(tmp_path)
        context = MockContext("weights.pt", str(tmp_path), "model.py")
        handler = TextClassifier()
        handler.initialize(context)
        return handler, context, texts.model

    return of


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        pytest.param("It is good", [1, 2, 6, 4, 0], id="words, and every two neighbours"),
        pytest.param("It's good", [1, 2, 6, 4, 0], id="contractions are written out"),
        pytest.param("it isn't!", [1, 2, 3, 4, 5], id="and punctuation goes"),
        pytest.param("<b>it</b> ís &amp; nót", [1, 2, 3, 4, 5], id="as do tags, entities, accents"),
        pytest.param("what?", [0], id="an unknown word is <unk>"),
    ],
)
@pytest.mark.parametrize("as_sent", [str, str.encode, lambda text: bytearray(text, "utf-8")])
def test_a_text_becomes_indices(make, text, indices, as_sent):
    handler, _, _ = make()
    tensor, _ = handler.preprocess([{"body": as_sent(text)}])
    assert tensor.tolist() == indices


def test_a_text_is_answered_by_every_class_with_its_probability(make):
    handler, context, model = make()
    (answer,) = handler.handle([{"data": "It's good"}], context)
    with torch.inference_mode():
        logits = model(torch.tensor([1, 2, 6, 4, 0]), torch.tensor([0]))
    expected = dict(zip(["bad", "fair", "good"], logits[0].softmax(0).tolist(), strict=True))
    assert answer == pytest.approx(expected)


def test_a_text_is_explained_word_by_word(make):
    handler, context, _ = make()
    context.get_request_header = lambda _, name: "True" if name == "explain" else None
    (answer,) = handler.handle([{"body": "It is good", "target": 2}], context)
    assert list(answer) == ["importances", "words"]
    assert answer["words"] == ["it", "is", "good"]
    importances = torch.tensor(answer["importances"])
    assert torch.linalg.vector_norm(importances.sum(-1)).item() == pytest.approx(1)


def test_texts_are_answered_without_captum(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    handler, context, _ = make()
    handler.handle([{"body": "good"}], context)
    with pytest.raises(ImportError, match=r"captum.*flambeau-runtime\[explain\]"):
        _ = handler.lig


def test_a_word_that_nobody_knows_is_named(make):
    handler, _, _ = make(vocabulary={"good": 0})
    with pytest.raises(KeyError, match=r"'bad' is not in source_vocab.pt, and neither is <unk>"):
        handler.preprocess([{"body": "bad"}])


def test_a_missing_vocabulary_says_how_to_pass_it(tmp_path):
    eager(LINEAR).write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"source_vocab.pt.*--extra-files"):
        TextClassifier().initialize(MockContext("weights.pt", str(tmp_path), "model.py"))


@pytest.mark.parametrize(
    ("text", "written_out"),
    [
        pytest.param("I'd go", "I would go", id="the first letter stays as it was"),
        pytest.param("Can't stop", "Cannot stop", id="also where the word changes"),
        pytest.param(
            "we can't've", "we cannotve", id="the shortest is found first, as models learnt"
        ),
        pytest.param("'cause", "ecause", id="even an apostrophe stays, and then goes"),
        pytest.param("Sam's dog", "Sams dog", id="what is no contraction loses its apostrophe"),
    ],
)
def test_contractions_are_written_out(text, written_out):
    assert TextHandler()._expand_contractions(text) == written_out


@pytest.mark.parametrize(
    ("contraction", "words"),
    [
        ("won't", "will not"),
        ("they've", "they have"),
        ("I'm", "I am"),
        ("y'all'd", "you all would"),
    ],
)
def test_contractions_by_themselves(contraction, words):
    assert CONTRACTION_MAP[contraction] == words


def test_punctuation_is_removed_under_both_spellings():
    handler = TextHandler()
    assert handler._remove_punctuation("a, b!") == handler._remove_puncutation("a, b!") == "a b"


@pytest.mark.parametrize(
    ("ngrams", "expected"),
    [
        (1, ["here", "we", "are"]),
        (2, ["here", "we", "are", "here we", "we are"]),
        (4, ["here", "we", "are", "here we", "we are", "here we are"]),
    ],
)
def test_ngrams(ngrams, expected):
    assert list(ngrams_iterator(["here", "we", "are"], ngrams)) == expected


@pytest.mark.parametrize(
    ("name", "line", "tokens"),
    [
        (None, "You can  now!", ["You", "can", "now!"]),
        ("basic_english", 'You "can", now.<br />', ["you", "can", ",", "now", "."]),
        ("basic_english", "it's (so; so): a?", ["it", "'", "s", "(", "so", "so", ")", "a", "?"]),
        (list, "ab", ["a", "b"]),
    ],
)
def test_tokenizers(name, line, tokens):
    assert get_tokenizer(name)(line) == tokens


@pytest.mark.parametrize(
    ("name", "language", "says"),
    [("spacy", "en", "no tokenizer 'spacy'"), ("basic_english", "de", "not 'de'")],
)
def test_a_tokenizer_that_does_not_exist(name, language, says):
    with pytest.raises(ValueError, match=says):
        get_tokenizer(name, language)
