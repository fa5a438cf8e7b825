"""`TextHandler`: cleaning text, words and their indices; what all handlers of text share."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch

from flambeau_runtime.worker.extras import need
from ts.handler_utils.text_utils import get_tokenizer
from ts.torch_handler.base_handler import BaseHandler
from ts.torch_handler.contractions import CONTRACTION_MAP
from ts.utils.util import CLEANUP_REGEX

VOCABULARY = "source_vocab.pt"
UNKNOWN = "<unk>"

Anything: TypeAlias = Any

_WORDS = {contraction.lower(): words for contraction, words in CONTRACTION_MAP.items()}
# Shorter ones first: TorchServe finds "can't" in "can't've" and leaves "'ve", and models learn it.
_CONTRACTION = re.compile("|".join(map(re.escape, sorted(_WORDS, key=len))), re.IGNORECASE)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TextHandler(BaseHandler):
    """Loads a vocabulary beside the model; a derived class makes tensors of the words.

    The vocabulary is `source_vocab.pt` of the archive: a dict of token → index, saved by
    torch.save, or any other mapping if model-config.yaml says `handler: {weights_only: false}`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.source_vocab: Anything = None
        self.tokenizer: Callable[[str], list[str]] = get_tokenizer("basic_english")
        self.input_text: Anything = None
        self.initialized = None

    def initialize(self, context: Anything) -> None:
        """Load the model and its vocabulary.

        Raises:
            FileNotFoundError: the archive has no source_vocab.pt.
        """
        super().initialize(context)
        self.initialized = False
        named = self.manifest["model"].get("sourceVocab")
        self.source_vocab = self._load_weights(named or self.get_source_vocab_path(context))
        self.initialized = True

    @cached_property
    def lig(self) -> Anything:
        """Captum's integrated gradients of the model's `embedding`; made when first asked for."""
        attribution = need("captum.attr", "an explanation")
        return attribution.LayerIntegratedGradients(self.model, self.model.embedding)

    def get_source_vocab_path(self, ctx: Anything) -> str:
        """Return where the vocabulary is."""
        path = Path(ctx.system_properties.get("model_dir")) / VOCABULARY
        if not path.is_file():
            raise FileNotFoundError(
                f"Missing the vocabulary {VOCABULARY}: pass a dict of token to index, saved by "
                "torch.save, to torch-model-archiver with --extra-files"
            )
        return str(path)

    def get_word_token(self, input_tokens: Sequence[str]) -> list[str]:
        """Return the tokens without the mark of byte-pair encoders for a space."""
        return [token.replace("Ġ", "") for token in input_tokens]

    def summarize_attributions(self, attributions: torch.Tensor) -> torch.Tensor:
        """Return attributions [tokens, dimensions] as shares of one, over their sums' norm."""
        shares = torch.softmax(attributions, dim=_implied_dim(attributions))
        norm: torch.Tensor = torch.linalg.vector_norm(shares.sum(dim=-1))
        return shares / norm

    def _expand_contractions(self, text: str) -> str:
        """Write contractions out: I'd → I would; and drop the apostrophes that are left."""
        return _CONTRACTION.sub(_written_out, text).replace("'", "")

    def _remove_accented_characters(self, text: str) -> str:
        decomposed = unicodedata.normalize("NFKD", text)
        return decomposed.encode("ascii", "ignore").decode()

    def _remove_html_tags(self, text: str) -> str:
        return CLEANUP_REGEX.sub("", text)

    def _remove_punctuation(self, text: str) -> str:
        return text.translate(_NO_PUNCTUATION)

    _remove_puncutation = _remove_punctuation  # so it is spelt in handlers of old

    def _tokenize(self, text: str) -> list[str]:
        return self.tokenizer(text)

    def _index_of(self, token: str) -> int:
        """Return a token's index; what a plain dict does not know is its `<unk>`, if it has one."""
        try:
            return int(self.source_vocab[token])
        except KeyError:
            if UNKNOWN in self.source_vocab:
                return int(self.source_vocab[UNKNOWN])
            raise KeyError(f"{token!r} is not in {VOCABULARY}, and neither is {UNKNOWN}") from None


def _written_out(found: re.Match[str]) -> str:
    # The first character stays as it was written: "Can't" → "Cannot".
    return found[0][0] + _WORDS[found[0].lower()][1:]


def _implied_dim(tensor: torch.Tensor) -> int:
    """Return the dimension that softmax takes when nobody says one."""
    return 0 if tensor.dim() in {0, 1, 3} else 1
