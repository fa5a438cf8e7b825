"""Section 9: workflows."""

from tests.compat.inventory.row import MISSING, RARE, Row, Section, V

LATER = "planned for a later release"

SECTION = Section(
    "9",
    "Workflows",
    (
        Row("9-spec", "a workflow's models and its DAG", RARE, V, MISSING, LATER),
        Row("9-rest", "/workflows and /wfpredict", RARE, V, MISSING, LATER),
        Row("9-answers", "one leaf: its bytes; several: JSON by node", RARE, V, MISSING, LATER),
    ),
)
