"""Section 6: archives and archivers."""

from tests.compat.inventory.row import MUST, RARE, SHOULD, Row, S, Section, V

SECTION = Section(
    "6",
    "Archives",
    (
        Row("6-archiver", "torch-model-archiver and its flags", MUST, V),
        Row("6-mar", ".mar: a zip with MAR-INF/MANIFEST.json", MUST, V),
        Row("6-tgz", "tgz: one top directory, stripped", MUST, V),
        Row("6-no-archive", "no-archive: a plain directory, used in place", MUST, V),
        Row("6-manifest", "the fields of the manifest", MUST, V),
        Row("6-no-manifest", "no manifest: name and handler from the request", RARE, V),
        Row("6-zip-slip", "an entry that escapes is an error", MUST, S),
        Row("6-extraction", "extracted under TEMP, removed on unregister", MUST, V),
        Row("6-working-directory", "the worker's working directory and PYTHONPATH", MUST, V),
        Row("6-names", "names are checked by the archiver", SHOULD, S),
        Row("6-requirements", "requirements are installed per model", MUST, V),
        Row("6-requirements-venv", "useVenv: into a virtual environment", SHOULD, S),
        Row("6-no-checks", "no checksum or signature", RARE, S),
        Row("6-workflow-archiver", "torch-workflow-archiver", RARE, S),
    ),
)
