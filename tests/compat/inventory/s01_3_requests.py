"""Section 1.3: requests as the handler sees them."""

from tests.compat.inventory.row import MUST, RARE, SAME, SHOULD, Row, Section, V

SECTION = Section(
    "1.3",
    "Inference: requests as the handler sees them",
    (
        Row("1.3-json", "application/json: body is the decoded value", MUST, V, SAME),
        Row("1.3-broken-json", "broken or empty JSON: body is a bytearray", MUST, V, SAME),
        Row(
            "1.3-text", "text/*: body is a str; what is not UTF-8 stays a bytearray", MUST, V, SAME
        ),
        Row("1.3-bytes", "other, no content type, or no body: body is a bytearray", MUST, V, SAME),
        Row("1.3-multipart", "multipart/form-data: one key per part name", MUST, V, SAME),
        Row(
            "1.3-multipart-decoded",
            "JSON and text parts are decoded, others bytearray",
            MUST,
            V,
            SAME,
        ),
        Row("1.3-multipart-repeated", "a repeated part name keeps the last part", MUST, V, SAME),
        Row("1.3-form", "urlencoded forms: one key per field, bytearray values", MUST, V, SAME),
        Row("1.3-query", "the query string of /predictions is not visible", SHOULD, V, SAME),
        Row(
            "1.3-query-invocations",
            "query fields of /invocations and the oldest paths are extra keys, bytearray",
            RARE,
            V,
            SAME,
        ),
        Row("1.3-not-decoded", "decode_input_request=false: all bytearray", SHOULD, V, SAME),
        Row("1.3-chunked", "chunked request bodies", MUST, V, SAME),
        Row("1.3-expect", "Expect: 100-continue", MUST, V, SAME),
        Row("1.3-keep-alive", "keep-alive", MUST, V, SAME),
        Row(
            "1.3-header-case",
            "request headers are looked up in the client's own spelling",
            MUST,
            V,
            SAME,
        ),
        Row("1.3-header-repeated", "a repeated header keeps one value", SHOULD, V, SAME),
        Row(
            "1.3-part-content-type",
            "a part's content type is found under the part's name",
            SHOULD,
            V,
            SAME,
        ),
        Row("1.3-added-headers", "explain and url_path are added for predictions", MUST, V, SAME),
        Row("1.3-describe-header", "describe is added for customised metadata", SHOULD, V, SAME),
    ),
)
