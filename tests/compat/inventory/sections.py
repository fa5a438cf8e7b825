"""Every section of the inventory, in its order."""

from __future__ import annotations

from tests.compat.inventory import (
    s01_1_paths,
    s01_2_errors,
    s01_3_requests,
    s01_4_responses,
    s02_management,
    s03_metrics,
    s04_configuration,
    s05_model_config,
    s06_archives,
    s07_handlers,
    s08_grpc,
    s09_workflows,
    s10_workers,
    s11_gpus,
    s12_kubernetes,
    s15_guide,
)
from tests.compat.inventory.row import Row, Section

SECTIONS: tuple[Section, ...] = (
    s01_1_paths.SECTION,
    s01_2_errors.SECTION,
    s01_3_requests.SECTION,
    s01_4_responses.SECTION,
    *s02_management.SECTIONS,
    s03_metrics.SECTION,
    *s04_configuration.SECTIONS,
    s05_model_config.SECTION,
    s06_archives.SECTION,
    *s07_handlers.SECTIONS,
    s08_grpc.SECTION,
    s09_workflows.SECTION,
    s10_workers.SECTION,
    s11_gpus.SECTION,
    s12_kubernetes.SECTION,
    s15_guide.SECTION,
)

ROWS: dict[str, Row] = {row.id: row for section in SECTIONS for row in section.rows}
