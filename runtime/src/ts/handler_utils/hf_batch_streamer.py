"""A streamer for `generate` of transformers, with one stream of text per row of a batch."""

from __future__ import annotations

from typing import Any

from transformers.generation.streamers import BaseStreamer, TextIteratorStreamer


class TextIteratorStreamerBatch(BaseStreamer):  # type: ignore[misc]  transformers is optional
    """An iterator over lists with one `{"text": …}` per row, fed by `generate(streamer=…)`.

    It ends with the first row that ends. Run `generate` in a thread of its own.
    """

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401  any tokenizer of transformers
        batch_size: int,
        skip_prompt: bool = False,
        timeout: float | None = None,
        **decode_kwargs: Any,  # noqa: ANN401  passed through to the tokenizer
    ) -> None:
        self.batch_size = batch_size
        self.streamers = [
            TextIteratorStreamer(tokenizer, skip_prompt, timeout, **decode_kwargs)
            for _ in range(batch_size)
        ]
        self.streamer_iterators = [iter(streamer) for streamer in self.streamers]

    def put(self, value: Any) -> None:  # noqa: ANN401  a tensor
        """Take the next tokens: one row of them per stream, int64 [batch_size, …]."""
        if value.shape[0] != self.batch_size:
            raise ValueError(
                f"TextIteratorStreamerBatch has batch_size {self.batch_size} "
                f"but was given a tensor of shape {tuple(value.shape)}"
            )
        for row, streamer in enumerate(self.streamers):
            streamer.put(value[row : row + 1])

    def end(self) -> None:
        """Take note that no more tokens come."""
        for streamer in self.streamers:
            streamer.end()

    def __iter__(self) -> TextIteratorStreamerBatch:
        """Iterate over what comes."""
        return self

    def __next__(self) -> list[dict[str, str]]:
        """Return the next piece of every row; wait for it."""
        return [{"text": next(iterator)} for iterator in self.streamer_iterators]
