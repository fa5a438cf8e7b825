"""A user's handler in a worker: found, loaded, called with decoded rows, its answers encoded."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from flambeau_runtime import protocol
from flambeau_runtime.archive.manifest import read_config
from flambeau_runtime.errors import (
    ArchiveInvalid,
    HandlerRefused,
    LoadFailed,
    OutOfMemory,
    PredictionFailed,
)
from flambeau_runtime.protocol import WITH_HANDLER
from flambeau_runtime.worker import envelopes, faults
from flambeau_runtime.worker.answers import final_code, row_result
from flambeau_runtime.worker.context import Context, RequestProcessor, Row, RowResult
from flambeau_runtime.worker.entry_point import EntryPoint, NoEntryPoint, find_entry_point
from flambeau_runtime.worker.refusal import PredictionException
from flambeau_runtime.worker.results import Result, dumps, encode
from flambeau_runtime.worker.rows import read_row
from flambeau_runtime.worker.splitting import SplitPolicy, Splitting, is_list
from flambeau_runtime.worker.streaming import NEXT, ReaderLeft

log = logging.getLogger(__name__)

LONGEST_MESSAGE = 1000
"""Characters of a handler's exception that an answer repeats; the log has all of it."""

NO_HEADERS: tuple[tuple[str, str], ...] = ()
Data = list[dict[str, Any]]


class LoadedHandler:
    """One handler, loaded; one per worker process."""

    def __init__(
        self,
        entry_point: EntryPoint,
        context: Context,
        batch_size: int = 1,
        decode: bool = True,
        splitting: Splitting = Splitting.AUTO,
        continuous: bool = False,
    ) -> None:
        self.context = context
        self._handle = entry_point.handle
        self._batch_size = max(batch_size, 1)
        self._decode = decode
        self._split = SplitPolicy(splitting)
        self._prediction_ms: float | None = None
        self._continuous = continuous

    def run(self, rows: Sequence[Row]) -> list[RowResult]:
        """Run the handler on one batch.

        Returns:
            Exactly one result per row, in the same order.

        Raises:
            PredictionFailed: the handler raised or broke its contract (OutOfMemory, HandlerRefused
                are its subclasses); the message names the last exception.
        """
        context = self.context
        context.begin(rows)
        if self._continuous:
            return self._run_call(rows)
        decode = self._decode
        processors = context.request_processor
        data = [
            read_row(row, processor, decode)
            for row, processor in zip(rows, processors, strict=True)
        ]
        if self._split.concerns(data):
            return self._run_with_lists(rows, data)
        return self._answer(data)

    async def run_concurrently(self, rows: Sequence[Row], context: Context) -> list[RowResult]:
        """Run a handler that is a coroutine on one batch, beside others; `run` in the rest."""
        context.begin(rows)
        processors = context.request_processor
        data = [
            read_row(row, processor, self._decode)
            for row, processor in zip(rows, processors, strict=True)
        ]
        begun = time.perf_counter()
        try:
            results = self._handle(data, context)
            if inspect.isawaitable(results):
                results = await results
        except Exception as error:
            if not isinstance(error, ReaderLeft):
                log.exception("the handler raised on a batch of %d", len(rows))
            raise read_fault(error) from error
        finally:
            self._prediction_ms = (time.perf_counter() - begun) * 1000
        _check(results, len(rows))
        return [
            row_result(encode(result), processor)
            for result, processor in zip(results, processors, strict=True)
        ]

    def drain_metrics(self) -> list[dict[str, Any]]:
        """Return what was measured since the last call, ready for a METRICS frame.

        One dict per update: name, value, unit, type (counter, gauge, histogram), dimensions
        ([[name, value], …]), requestId. PredictionTime is the last call's, once per drain: drain
        once a second, not once a batch.
        """
        if self._prediction_ms is not None:
            self.context.metrics.add_time("PredictionTime", self._prediction_ms)
            self._prediction_ms = None
        drained: list[dict[str, Any]] = self.context.metrics.drain()
        return drained

    def _run_call(self, rows: Sequence[Row]) -> list[RowResult]:
        """Run one call of a batch that goes on: a row that the handler knows comes without body.

        Its `stopping_criteria[i](result)` says whether row i is finished; as in TorchServe, a row
        without a criterion is.
        """
        context = self.context
        data = [
            self._known_or_new(row, processor)
            for row, processor in zip(rows, context.request_processor, strict=True)
        ]
        results = self._call(data)
        if context.stopping_criteria:
            for index, result in enumerate(results):
                self._mark(index, result)
        return [
            row_result(encode(result), processor)
            for result, processor in zip(results, context.request_processor, strict=True)
        ]

    def _known_or_new(self, row: Row, processor: RequestProcessor) -> dict[str, Any]:
        if row.body is not WITH_HANDLER:
            return read_row(row, processor, self._decode)
        processor.note_parts({})  # without a body there is no content type of it
        return {}

    def _mark(self, index: int, result: Result) -> None:
        try:
            finished = self.context.stopping_criteria[index](result)
        except Exception as error:
            log.exception("stopping_criteria[%d] raised", index)
            raise read_fault(error) from error
        if finished is not None:
            self.context.set_response_header(index, NEXT, "false" if finished else "true")

    def _answer(self, data: Data, quiet: bool = False) -> list[RowResult]:
        results = self._call(data, quiet)
        processors = self.context.request_processor
        return [
            row_result(encode(result), processor)
            for result, processor in zip(results, processors, strict=True)
        ]

    def _call(self, data: Data, quiet: bool = False) -> list[Any]:
        asked = len(data)  # a handler may empty the list
        begun = time.perf_counter()
        try:
            results = self._handle(data, self.context)
        except Exception as error:
            if isinstance(error, ReaderLeft):
                log.info("the readers of a batch of %d left before its end", asked)
            elif not quiet:
                log.exception("the handler raised on a batch of %d", asked)
            raise read_fault(error) from error
        finally:
            self._prediction_ms = (time.perf_counter() - begun) * 1000
        return _check(results, asked)

    def _run_with_lists(self, rows: Sequence[Row], data: Data) -> list[RowResult]:
        whole: PredictionFailed | None = None
        if self._split.whole_first:
            try:
                results = self._answer(data, quiet=True)
            except (OutOfMemory, HandlerRefused):
                raise
            except PredictionFailed as error:
                if self._has_streamed():
                    raise
                whole = error
            else:
                self._split.accepted_whole(data)
                return results
        outcomes = self._run_split(rows, data)
        failed = [outcome for outcome in outcomes if isinstance(outcome, PredictionFailed)]
        if len(failed) == len(outcomes):
            raise _join_faults(whole, failed[0])
        return [
            _problem(outcome) if isinstance(outcome, PredictionFailed) else outcome
            for outcome in outcomes
        ]

    def _has_streamed(self) -> bool:
        outlet = self.context.cl_socket
        return outlet is not None and outlet.begun

    def _run_split(self, rows: Sequence[Row], data: Data) -> list[RowResult | PredictionFailed]:
        """Run what is no list together, and each list by itself: its bad element is its own."""
        outcomes: dict[int, RowResult | PredictionFailed] = {}
        plain = [index for index, row in enumerate(data) if not is_list(row)]
        outcomes.update(zip(plain, self._run_plain(rows, data, plain), strict=True))
        for index, row in enumerate(data):
            if is_list(row):
                outcomes[index] = self._run_list(rows[index], row["body"])
        return [outcomes[index] for index in range(len(data))]

    def _run_plain(
        self, rows: Sequence[Row], data: Data, indices: Sequence[int]
    ) -> Sequence[RowResult | PredictionFailed]:
        if not indices:
            return []
        self.context.begin([rows[index] for index in indices])
        try:
            return self._answer([data[index] for index in indices])
        except PredictionFailed as fault:
            return [fault] * len(indices)

    def _run_list(self, row: Row, elements: list[Any]) -> RowResult | PredictionFailed:
        results: list[Any] = []
        first: RequestProcessor | None = None
        for start in range(0, len(elements), self._batch_size):
            chunk = elements[start : start + self._batch_size]
            self.context.begin([row] * len(chunk))
            self.context.in_list = True
            try:
                results += self._call([{"body": element} for element in chunk])
            except PredictionFailed as fault:
                return fault
            finally:
                self.context.in_list = False
            first = first or self.context.request_processor[0]
        try:
            body = dumps([_as_json(result) for result in results])
        except PredictionFailed as fault:
            return fault
        if results:
            self._split.accepted_split()
        return row_result(body, first or RequestProcessor())


def _check(results: object, asked: int) -> list[Any]:
    """Return the results if they are as many as there are requests."""
    if not isinstance(results, list):
        raise PredictionFailed(
            f"Invalid model predict output: a handler returns a list with one result per "
            f"request, this one returned {type(results).__name__}"
        )
    if len(results) != asked:
        raise PredictionFailed(
            f"number of batch response mismatched: the handler returned {len(results)} "
            f"results for {asked} requests"
        )
    return results


def load(message: Mapping[str, Any]) -> LoadedHandler:
    """Load the handler that a LOAD message describes.

    The message: model, version, modelDir, manifest, handler, batchSize, gpuId, deviceType,
    decodeInputRequest, splitJsonArrays (auto|on|off), limitMaxImagePixels, modelConfig, envelope
    (the server's; model-config.yaml may name another), continuousBatching.

    The process's working directory becomes the model's, which also comes first on the import path.

    Raises:
        LoadFailed: reason HandlerImportFailed or InitializeFailed, message "ValueError: …".
    """
    model_dir = Path(message["modelDir"])
    _enter(model_dir)
    _show_logs()
    context = Context(
        model_name=message["model"],
        model_dir=str(model_dir),
        manifest=message.get("manifest") or {},
        batch_size=message.get("batchSize", 1),
        gpu=message.get("gpuId"),
        limit_max_image_pixels=message.get("limitMaxImagePixels", True),
        model_yaml_config=_read_config(message, model_dir),
    )
    envelope = _choose_envelope(context, message.get("envelope"))
    entry_point = _import(message["handler"], model_dir, envelope)
    _initialize(entry_point, context)
    return LoadedHandler(
        entry_point,
        context,
        batch_size=message.get("batchSize", 1),
        decode=message.get("decodeInputRequest", True),
        splitting=_splitting(message.get("splitJsonArrays") or "auto", envelope),
        continuous=message.get("continuousBatching", False),
    )


def _read_config(message: Mapping[str, Any], model_dir: Path) -> Mapping[str, Any]:
    """Read model-config.yaml here, where YAML keeps its own types: numbers as keys, dates."""
    named = (message.get("manifest") or {}).get("model", {}).get("configFile")
    try:
        return read_config(model_dir, message["model"], named) or message.get("modelConfig") or {}
    except ArchiveInvalid as error:
        raise LoadFailed("ArchiveInvalid", str(error)) from error


def read_fault(error: Exception) -> PredictionFailed:
    """Return what a handler's exception means to its callers."""
    if isinstance(error, PredictionFailed):  # raised by what a handler calls of ours
        return error
    if isinstance(error, PredictionException):
        return HandlerRefused(str(error.message), final_code(error.error_code))
    said = describe(error)
    # TorchServe's rule, and clients of theirs retry on its 507: CUDA's errors have no class of
    # their own in every torch.
    if isinstance(error, _out_of_memory_types()) or "CUDA" in said:
        return OutOfMemory(f"Out of resources. {said}")
    return PredictionFailed(f"Prediction failed. {said}")


def describe(error: BaseException) -> str:
    """Return an exception's kind and text, cut to a length fit for an answer."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  an exception may be unable to say what it is
        text = "(its text cannot be read)"
    whole = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return whole if len(whole) <= LONGEST_MESSAGE else whole[: LONGEST_MESSAGE - 1] + "…"


def _enter(model_dir: Path) -> None:
    os.chdir(model_dir)
    if str(model_dir) in sys.path:
        sys.path.remove(str(model_dir))
    sys.path.insert(0, str(model_dir))


def _show_logs() -> None:
    """Let what handlers log be seen: they count on TorchServe's root logger, at INFO on stdout."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")


def _choose_envelope(context: Context, of_server: str | None) -> str | None:
    try:
        return envelopes.choose(context.model_yaml_config, of_server)
    except NoEntryPoint as error:
        raise LoadFailed("HandlerImportFailed", str(error)) from error


def _splitting(said: str, envelope: str | None) -> Splitting:
    """Return what happens to JSON lists; an envelope knows what they are, so none is learnt."""
    splitting = Splitting(said)
    return Splitting.OFF if envelope and splitting is Splitting.AUTO else splitting


def _import(handler: str, model_dir: Path, envelope: str | None) -> EntryPoint:
    try:
        entry_point = find_entry_point(handler, model_dir)
        return envelopes.wrap(entry_point, envelope) if envelope else entry_point
    except NoEntryPoint as error:
        raise LoadFailed("HandlerImportFailed", str(error)) from error
    except (Exception, SystemExit) as error:
        log.exception("the handler cannot be imported")
        raise LoadFailed(_load_reason(error, "HandlerImportFailed"), describe(error)) from error


def _initialize(entry_point: EntryPoint, context: Context) -> None:
    try:
        entry_point.initialize(context)
    except (Exception, SystemExit) as error:
        log.exception("the handler cannot be initialised")
        raise LoadFailed(_load_reason(error, "InitializeFailed"), describe(error)) from error


def _load_reason(error: BaseException, otherwise: str) -> str:
    """Return OutOfMemory if that is what it was, also behind an error of the handler's own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _out_of_memory_types()) or "CUDA out of memory" in str(seen):
            return "OutOfMemory"  # the text: a torch that is old has no class for it
        seen = seen.__cause__ or seen.__context__
    return otherwise


def _out_of_memory_types() -> tuple[type[BaseException], ...]:
    torch = sys.modules.get("torch")  # a handler that never imported it cannot raise its errors
    own = getattr(torch, "OutOfMemoryError", None) or getattr(
        getattr(torch, "cuda", None), "OutOfMemoryError", None
    )
    return (MemoryError,) if own is None else (MemoryError, own)


def _as_json(result: Result) -> Result:
    """Return one element's answer as a value inside a JSON list."""
    if isinstance(result, (bytes, bytearray)):
        try:
            return result.decode()
        except UnicodeDecodeError as error:
            raise PredictionFailed(
                "Unsupported model output data type. Bytes cannot be an element of a JSON list."
            ) from error
    return result


def _join_faults(whole: PredictionFailed | None, split: PredictionFailed) -> PredictionFailed:
    """Return the fault of a list's elements, with that of the whole list beside it."""
    if whole is None or isinstance(split, (OutOfMemory, HandlerRefused)):
        return split
    return PredictionFailed(f"{split} (element by element; and with the whole list: {whole})")


def _problem(fault: PredictionFailed) -> RowResult:
    """Return a fault as one row's, when the other rows of its batch have answers."""
    return RowResult(orjson.dumps(faults.describe(fault)), protocol.ROW_FAULT)
