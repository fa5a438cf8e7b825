"""torch-model-archiver: TorchServe's flags and archives, the same bytes for the same files."""

import json
import tarfile
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from flambeau_runtime.archive.store import Store
from flambeau_runtime.archive.writer import (
    ArchiveFormat,
    CannotArchive,
    Recipe,
    make_manifest,
    write_archive,
)
from flambeau_runtime.commands import torch_model_archiver

NOW = datetime(2026, 2, 1, 13, 4, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("handler.py", "model.py", "w.pt", "labels.json", "extra/a.txt", "extra/in/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for unwanted in ("extra/__pycache__/x.pyc", "extra/.git/config", "extra/__MACOSX/y"):
        (tmp_path / unwanted).parent.mkdir()
        (tmp_path / unwanted).write_text("unwanted")
    return tmp_path


def archive(*flags):
    required = ["--model-name", "m", "--version", "1.0", "--export-path", "store"]
    handler = [] if "--handler" in flags else ["--handler", "handler.py"]
    torch_model_archiver.main([*required, *handler, *flags])


def names(path):
    return sorted(zipfile.ZipFile(path).namelist())


def test_a_model_its_weights_and_its_handler_become_one_archive(capsys):
    archive("--serialized-file", "w.pt", "--model-file", "model.py")
    assert names("store/m.mar") == ["MAR-INF/MANIFEST.json", "handler.py", "model.py", "w.pt"]
    assert capsys.readouterr().out == ""


def test_the_manifest_is_the_one_torchserve_writes():
    recipe = Recipe(
        "m",
        "1.0",
        "src/handler.py:run",
        serialized_file="out/w.pt",
        model_file="src/model.py",
        requirements_file="requirements.txt",
        config_file="model-config.yaml",
    )
    assert make_manifest(recipe, NOW) == {
        "createdOn": "01/02/2026 13:04:05",
        "runtime": "python",
        "model": {
            "modelName": "m",
            "serializedFile": "w.pt",
            "handler": "handler.py:run",
            "modelFile": "model.py",
            "modelVersion": "1.0",
            "requirementsFile": "requirements.txt",
            "configFile": "model-config.yaml",
        },
        "archiverVersion": "0.12.0",
    }


@pytest.mark.parametrize(
    ("handler", "kept", "packed"),
    [
        ("handler.py", "handler.py", True),
        ("handler", "handler", True),
        ("handler.py:go", "handler.py:go", True),
        ("handler:go", "handler:go", True),
        ("base_handler", "base_handler", False),
        ("image_classifier", "image_classifier", False),
    ],
)
def test_a_handler_is_a_file_a_function_of_it_or_a_default_one(handler, kept, packed):
    archive("--handler", handler)
    with zipfile.ZipFile("store/m.mar") as made:
        assert json.loads(made.read("MAR-INF/MANIFEST.json"))["model"]["handler"] == kept
        assert ("handler.py" in made.namelist()) == packed


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        pytest.param("labels.json", ["labels.json"], id="a file"),
        pytest.param("labels.json, model.py", ["labels.json", "model.py"], id="a list of files"),
        pytest.param("extra", ["a.txt", "in/b.txt"], id="a directory, its content spread"),
        pytest.param("extra/", ["a.txt", "in/b.txt"], id="a directory with a slash"),
        pytest.param("*.json,ex*/*.txt", ["a.txt", "labels.json"], id="wildcards"),
        pytest.param("extra,labels.json", ["a.txt", "in/b.txt", "labels.json"], id="a mixture"),
    ],
)
def test_extra_files_are(extra, found):
    archive("--extra-files", extra)
    assert names("store/m.mar") == sorted(["MAR-INF/MANIFEST.json", "handler.py", *found])


def test_a_link_back_up_ends_the_walk(here):
    (here / "extra" / "loop").symlink_to(here / "extra", target_is_directory=True)
    archive("--extra-files", "extra")
    assert "in/b.txt" in names("store/m.mar")


REFUSED = [
    ("missing weights", ["--serialized-file", "gone.pt"], "there is no file gone.pt"),
    ("a missing handler", ["--handler", "gone"], "no default handler of that name: base_handler"),
    ("a missing extra file", ["--extra-files", "gone.txt"], "File does not exist: gone.txt"),
    ("a name with a path in it", ["--model-name", "../m"], "Model name contains special charac"),
    ("two files of one name", ["--extra-files", "other/handler.py"], "would both be handler.py"),
    ("an export path that is a file", ["--export-path", "w.pt"], "export-path w.pt is not a dir"),
]


@pytest.mark.parametrize(
    ("flags", "says"), [pytest.param(flags, says, id=name) for name, flags, says in REFUSED]
)
def test_what_cannot_be_archived_says_why_and_exits_with_1(here, flags, says, caplog):
    (here / "other").mkdir()
    (here / "other" / "handler.py").write_text("another")
    with pytest.raises(SystemExit) as exited:
        archive(*flags)
    assert exited.value.code == 1
    assert says in caplog.text
    assert not list(here.glob("store/*"))


@pytest.mark.parametrize("flags", [["--archive-format", "rar"], ["--runtime", "java"]])
def test_wrong_flags_exit_with_2(flags):
    with pytest.raises(SystemExit) as exited:
        archive(*flags)
    assert exited.value.code == 2


@pytest.mark.parametrize("archive_format", ArchiveFormat)
def test_an_archive_that_is_there_is_overwritten_by_force_only(archive_format, caplog):
    archive("--archive-format", archive_format)
    with pytest.raises(SystemExit) as exited:
        archive("--archive-format", archive_format)
    assert exited.value.code == 1
    assert "Please specify --force/-f option to overwrite" in caplog.text
    archive("--archive-format", archive_format, "--force")
    assert "Overwriting" in caplog.text


def test_a_wildcard_without_a_match_is_a_warning(caplog):
    archive("--extra-files", "gone*,labels.json")
    assert "labels.json" in names("store/m.mar")
    assert "Given wildcard pattern did not match any file: gone*" in caplog.text


def test_a_handler_of_the_runtime_lsp_is_a_shared_library(here):
    (here / "native.so").write_text("native")
    archive("--runtime", "LSP", "--handler", "native")
    assert names("store/m.mar") == ["MAR-INF/MANIFEST.json", "native.so"]


@pytest.mark.parametrize("archive_format", ArchiveFormat)
async def test_every_format_is_opened_by_the_runtime(here, archive_format):
    archive("--archive-format", archive_format, "--extra-files", "extra")
    made = f"m{archive_format.ending}"
    store = Store(here / "root", here / "store")
    package = await store.open(await store.fetch(made))
    assert (package.model, package.version, package.handler) == ("m", "1.0", "handler.py")
    assert (package.directory / "in" / "b.txt").read_text() == "extra/in/b.txt"


def test_zip_store_does_not_compress():
    archive("--archive-format", "zip-store")
    with zipfile.ZipFile("store/m.mar") as made:
        assert {info.compress_type for info in made.infolist()} == {zipfile.ZIP_STORED}


def test_a_gzipped_tar_has_one_top_directory():
    archive("--archive-format", "tgz")
    with tarfile.open("store/m.tar.gz") as made:
        assert {name.split("/")[0] for name in made.getnames()} == {"m"}


@pytest.mark.parametrize("archive_format", [ArchiveFormat.DEFAULT, ArchiveFormat.TGZ])
def test_equal_files_give_equal_bytes_but_for_the_time(here, archive_format):
    recipe = Recipe("m", "1.0", "handler.py", extra_files="extra,labels.json")

    def made(now):
        (here / "handler.py").touch()
        return write_archive(recipe, here / "s", archive_format, now, force=True).read_bytes()

    assert made(NOW) == made(NOW)
    assert made(NOW) != made(NOW + timedelta(seconds=1))


def test_the_time_may_be_fixed_from_outside(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    archive()
    with zipfile.ZipFile("store/m.mar") as made:
        assert b"02/01/1970 00:00:00" in made.read("MAR-INF/MANIFEST.json")


def test_an_archive_that_fails_half_way_leaves_the_old_one(here, monkeypatch):
    archive()
    before = (here / "store" / "m.mar").read_bytes()

    def break_off(*_arguments):
        raise OSError("no space left")

    monkeypatch.setattr("shutil.copyfileobj", break_off)
    with pytest.raises(OSError, match="no space"):
        write_archive(Recipe("m", "2", "handler"), here / "store", ArchiveFormat.DEFAULT, NOW, True)
    assert [path.name for path in (here / "store").iterdir()] == ["m.mar"]
    assert (here / "store" / "m.mar").read_bytes() == before


def test_a_name_is_checked_before_anything_is_written(here):
    with pytest.raises(CannotArchive, match="special characters"):
        write_archive(Recipe("a b", "1", "handler"), here / "s", ArchiveFormat.DEFAULT, NOW)
    assert not (here / "s").exists()
