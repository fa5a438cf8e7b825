"""Section 8: gRPC."""

from tests.compat.inventory.row import RARE, SHOULD, Row, S, Section, V

SECTION = Section(
    "8",
    "gRPC",
    (
        Row("8-ping", "Ping: the JSON text of /ping", SHOULD, V),
        Row("8-predictions", "Predictions: inputs are row keys, never decoded", SHOULD, V),
        Row("8-stream-predictions", "StreamPredictions", SHOULD, V),
        Row("8-stream-predictions-2", "StreamPredictions2: both ways, for sequences", RARE, S),
        Row("8-management", "management: the REST texts in msg", SHOULD, V),
        Row("8-management-defaults", "proto3 defaults count as not given", SHOULD, V),
        Row("8-oip", "GRPCInferenceService, with the switch", RARE, V),
        Row("8-oip-server-metadata", "ServerMetadata is UNIMPLEMENTED", RARE, V),
        Row("8-status", "HTTP statuses become gRPC's", SHOULD, V),
        Row(
            "8-status-odd",
            "unknown model INTERNAL, duplicate UNKNOWN, 507 INTERNAL",
            SHOULD,
            V,
        ),
    ),
)
