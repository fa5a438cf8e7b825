"""Section 6: archives and archivers."""

from tests.compat.inventory.row import (
    DIFFERENT,
    MISSING,
    MUST,
    RARE,
    SAME,
    SHOULD,
    Row,
    S,
    Section,
    V,
)

SECTION = Section(
    "6",
    "Archives",
    (
        Row("6-archiver", "torch-model-archiver and its flags", MUST, V, SAME),
        Row(
            "6-export-path",
            "an --export-path that is not there is an error",
            RARE,
            V,
            DIFFERENT,
            why="it is made: the guide packs into a model_store that nobody has made yet",
        ),
        Row("6-mar", ".mar: a zip with MAR-INF/MANIFEST.json", MUST, V, SAME),
        Row("6-tgz", "tgz: one top directory, stripped", MUST, V, SAME),
        Row("6-no-archive", "no-archive: a plain directory, used in place", MUST, V, SAME),
        Row("6-manifest", "the fields of the manifest", MUST, V, SAME),
        Row("6-no-manifest", "no manifest: name and handler from the request", RARE, V, SAME),
        Row("6-zip-slip", "an entry that escapes is an error", MUST, S, SAME),
        Row(
            "6-broken",
            "what is told of a broken or dangerous archive",
            SHOULD,
            V,
            DIFFERENT,
            why=(
                "400 InvalidModelException that names the entry or what is wrong, whatever the "
                "format; TorchServe answers 500 Failed to save model, or that the model has no "
                "name"
            ),
        ),
        Row("6-extraction", "extracted under TEMP, removed on unregister", MUST, V, SAME),
        Row("6-working-directory", "the worker's working directory and PYTHONPATH", MUST, V, SAME),
        Row("6-names", "names are checked by the archiver", SHOULD, S, SAME),
        Row("6-requirements", "requirements are installed per model", MUST, V, SAME),
        Row("6-requirements-venv", "useVenv: into a virtual environment", SHOULD, S, SAME),
        Row(
            "6-requirements-refused",
            "a model whose requirements cannot be installed",
            SHOULD,
            V,
            DIFFERENT,
            why=(
                "the answer has the last lines of the installer, and the model does not stay "
                "listed with no workers"
            ),
        ),
        Row(
            "6-requirements-kept",
            "packages that the server has already",
            SHOULD,
            V,
            DIFFERENT,
            why=(
                "they are used as they are where the requirements allow it; TorchServe fetches "
                "them again for each model"
            ),
        ),
        Row("6-no-checks", "no checksum or signature", RARE, S, SAME),
        Row(
            "6-workflow-archiver",
            "torch-workflow-archiver",
            RARE,
            S,
            MISSING,
            why="there are no workflows",
        ),
    ),
)
