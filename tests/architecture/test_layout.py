"""The house keeps its shape: what ARCHITECTURE.md says about files and imports is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    *(ROOT / "operator/src").rglob("*.py"),
    *(ROOT / "runtime/src/flambeau_runtime").rglob("*.py"),
]


def test_no_python_file_lies_directly_in_operator_where_it_would_shadow_the_standard_library():
    assert not list((ROOT / "operator").glob("*.py"))
    assert not (ROOT / "tests" / "operator").exists()


def test_every_test_folder_is_a_package_so_that_equal_file_names_do_not_clash():
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "manager", "misc"])
def test_no_module_has_a_name_that_says_nothing(word):
    assert not [path for path in SOURCES if path.stem == word]


def test_every_module_says_what_it_is_for():
    assert not [path for path in SOURCES if not path.read_text().lstrip().startswith('"""')]


def test_packages_have_no_code_in_their_init_files():
    code = re.compile(r"^(import|from|def|class|[A-Za-z_]+ ?=)", re.MULTILINE)
    inits = [path for path in SOURCES if path.name == "__init__.py"]
    assert not [path for path in inits if code.search(path.read_text())]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        pytest.param(
            "flambeau_runtime.serve",
            ["torch", "numpy", "fastapi", "prometheus_client", "aiohttp", "fsspec"],
            id="the front starts without torch, and imports the heavy APIs only when asked",
        ),
        pytest.param(
            "flambeau_runtime.worker.__main__",
            ["torch", "fastapi", "uvicorn", "pydantic"],
            id="a worker loads what its handler imports and nothing of the front",
        ),
        pytest.param(
            "flambeau_operator.plan.plan",
            ["aiohttp", "asyncio", "yaml"],
            id="planning needs no I/O",
        ),
        pytest.param(
            "flambeau_operator.cli.__main__",
            ["aiohttp", "torch"],
            id="the command line shows its help without loading what `up` needs",
        ),
    ],
)
def test_what_a_process_loads(module, forbidden):
    code = f"import sys, {module}; print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_architecture_md_names_only_files_that_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    roots = [ROOT, ROOT / "operator/src/flambeau_operator", ROOT / "runtime/src/flambeau_runtime"]
    named = set(re.findall(r"`([a-z_/.]+\.py)(?::[^`]*)?`", text))
    assert named, "the map names files"
    assert not [name for name in sorted(named) if not any((r / name).exists() for r in roots)]
