"""`text_classifier`: a text in, every class with its probability out; one text at a time."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from ts.handler_utils.text_utils import ngrams_iterator
from ts.torch_handler.text_handler import TextHandler
from ts.utils.util import map_class_to_label

Anything: TypeAlias = Any
Prepared: TypeAlias = tuple[torch.Tensor, list[str]]
"""Indices of words and n-grams, int64 [M]; and the words."""


class TextClassifier(TextHandler):
    """Answers a text with a dict of class → probability, by the names of index_to_name.json.

    The model takes the indices of all words, and of every two neighbours, and one offset, as
    `nn.EmbeddingBag` does. It takes no batch: leave batchSize at 1.
    """

    ngrams = 2

    def preprocess(self, data: Anything) -> Prepared:
        """Clean the first row's text and look its words up."""
        text = data[0].get("data") or data[0].get("body")
        if isinstance(text, (bytes, bytearray)):
            text = text.decode("utf-8")
        text = self._expand_contractions(self._remove_html_tags(text).lower())
        text = self._remove_punctuation(self._remove_accented_characters(text))
        words = self._tokenize(text)
        indices = [self._index_of(token) for token in ngrams_iterator(words, self.ngrams)]
        return torch.as_tensor(indices, device=self.device), words

    def inference(self, data: Prepared, *args: Anything, **kwargs: Anything) -> Anything:  # noqa: ARG002  the base's
        """Run the model on one text."""
        indices, _ = data
        return super().inference(indices, self._offsets())

    def postprocess(self, data: torch.Tensor) -> list[dict[str, float]]:
        """Return one dict from logits [1, classes]."""
        return map_class_to_label(torch.softmax(data, dim=1).tolist(), self.mapping)

    def get_insights(
        self,
        tensor_data: Prepared,
        raw_data: Anything,  # noqa: ARG002  the words are in the tensor's company
        target: Anything = 0,
    ) -> list[dict[str, Any]]:
        """Return the words, and what they add to the output `target`: {words, importances}."""
        indices, words = tensor_data
        attributions = self.lig.attribute(
            indices,
            torch.zeros_like(indices),  # every word compared with the vocabulary's first entry
            additional_forward_args=(self._offsets()),
            return_convergence_delta=False,
            target=target,
        )
        importances = self.summarize_attributions(attributions).tolist()
        return [{"importances": importances, "words": self.get_word_token(words)}]

    def _offsets(self) -> torch.Tensor:
        return torch.zeros(1, dtype=torch.int64, device=self.device)
