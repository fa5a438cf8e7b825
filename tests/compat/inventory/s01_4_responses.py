"""Section 1.4: responses of inference."""

from tests.compat.inventory.row import DIFFERENT, MUST, RARE, SAME, SHOULD, Row, Section, V

SECTION = Section(
    "1.4",
    "Inference: responses",
    (
        Row("1.4-str", "str: UTF-8 text", MUST, V, SAME),
        Row("1.4-bytes", "bytes and bytearray: as they are", MUST, V, SAME),
        Row(
            "1.4-json", "dict, list, number, bool, None: JSON indented by two, ASCII", MUST, V, SAME
        ),
        Row("1.4-nan", "NaN is written as NaN", MUST, V, SAME),
        Row("1.4-tensor", "a torch.Tensor: the bytes of a torch.save file", RARE, V, SAME),
        Row("1.4-request-id", "x-request-id: a fresh UUID", MUST, V, SAME),
        Row(
            "1.4-request-id-incoming",
            "an x-request-id that the client brings is ignored",
            SHOULD,
            V,
            DIFFERENT,
            "it is kept, up to 128 visible characters, so that a call can be followed",
        ),
        Row("1.4-no-content-type", "no content-type unless the handler sets one", SHOULD, V, SAME),
        Row(
            "1.4-cache-headers", "Pragma, Cache-Control and Expires forbid caching", SHOULD, V, SAME
        ),
        Row("1.4-content-length", "an exact content-length", SHOULD, V, SAME),
        Row("1.4-connection", "connection: keep-alive", SHOULD, V, SAME),
        Row(
            "1.4-connection-close",
            "Connection: close and HTTP/1.0 are answered with keep-alive, and kept open",
            RARE,
            V,
            DIFFERENT,
            "the connection ends when its client asks",
        ),
        Row("1.4-reason", "an empty reason phrase", SHOULD, V, SAME),
        Row("1.4-handler-headers", "set_response_header, set_response_content_type", MUST, V, SAME),
        Row(
            "1.4-handler-status",
            "set_response_status, set_all_response_status; the body stays the row's result",
            MUST,
            V,
            SAME,
        ),
        Row("1.4-streaming", "streamed answers: HTTP/1.1 chunked", MUST, V, SAME),
        Row("1.4-streaming-first", "the first piece leaves at once", MUST, V, SAME),
        Row("1.4-streaming-header", "ts_stream_next: true on the first piece", MUST, V, SAME),
        Row("1.4-streaming-some-rows", "some rows of a batch stream, others not", SHOULD, V, SAME),
        Row("1.4-streaming-timeout", "responseTimeout holds between pieces", SHOULD, V, SAME),
        Row(
            "1.4-streaming-broken",
            "a fault or death after the first piece: the connection closes without a last chunk",
            SHOULD,
            V,
            SAME,
        ),
        Row("1.4-streaming-code", "a piece with another code is that error", RARE, V, SAME),
        Row(
            "1.4-streaming-code-after",
            "after a piece with another code the worker dies of its own return",
            RARE,
            V,
            DIFFERENT,
            "the worker goes on; nobody can want its death",
        ),
        Row(
            "1.4-streaming-too-long",
            "a piece longer than max_response_size: 500, and the worker is killed",
            RARE,
            V,
            DIFFERENT,
            "503 that names max_response_size; the worker goes on",
        ),
        Row("1.4-cors", "the three CORS values are added to every answer", SHOULD, V, SAME),
        Row("1.4-cors-preflight", "no special answer to a pre-flight request", SHOULD, V, SAME),
        Row("1.4-tls", "https:// with key and certificate files, or a keystore", SHOULD, V, SAME),
        Row(
            "1.4-tls-versions",
            "TLS 1.2 with two RSA ciphers only",
            SHOULD,
            V,
            DIFFERENT,
            "TLS 1.2 and 1.3, with the ciphers of OpenSSL",
        ),
        Row("1.4-tls-no-files", "https:// without files fails at start", SHOULD, V, SAME),
    ),
)
