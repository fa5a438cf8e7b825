"""Section 6: archives as they are made, opened and taken away, and what they require."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pip
import pytest

from tests.compat.mar import write_mar
from tests.compat.ts import ours
from tests.wheels import from_wheels, write_wheel

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

LISTS = """\
import os

def handle(data, context):
    if data is not None:
        files = sorted(os.listdir(context.system_properties["model_dir"]))
        seen = {"files": files, "cwd": os.getcwd(), "path": os.environ["PYTHONPATH"]}
        seen |= {"dir": context.system_properties["model_dir"], "manifest": context.manifest}
        return [seen for _ in data]
"""


@pytest.fixture
def workshop(place):
    """A place with the files of a model, and its `torch-model-archiver`."""
    for name, text in {
        "handler.py": LISTS,
        "weights.pt": "weights",
        "model.py": "class Model: ...",
        "labels.json": "{}",
        "requirements.txt": "",
        "model-config.yaml": "handler: {}\n",
        "extra/a.txt": "a",
        "extra/inner/b.txt": "b",
        "extra/.hidden/c.txt": "c",
        "extra/__pycache__/d.pyc": "d",
    }.items():
        (place.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / name).write_text(text)
    return place


def archive(place, *flags, name="m", handler="handler.py"):
    words = ["--model-name", name, "--version", "1.0", "--export-path", "store"]
    words += ["--handler", handler]
    return place.run(*words, *flags, program="torch-model-archiver")


def content(path):
    with zipfile.ZipFile(path) as made:
        return made.namelist(), json.loads(made.read("MAR-INF/MANIFEST.json"))


@pytest.mark.row("6-archiver", "6-mar", "6-manifest")
def test_every_flag_of_the_archiver(workshop):
    made = archive(
        workshop,
        *("--serialized-file", "weights.pt", "--model-file", "model.py"),
        *("--extra-files", "labels.json,extra", "-r", "requirements.txt"),
        *("-c", "model-config.yaml", "--runtime", "python3", "--archive-format", "default"),
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    names, manifest = content(workshop.store / "m.mar")
    assert sorted(names) == [
        *("MAR-INF/MANIFEST.json", "a.txt", "handler.py", "inner/b.txt", "labels.json"),
        *("model-config.yaml", "model.py", "requirements.txt", "weights.pt"),
    ]
    assert list(manifest) == ["createdOn", "runtime", "model", "archiverVersion"]
    assert list(manifest["model"].items()) == [
        ("modelName", "m"),
        ("serializedFile", "weights.pt"),
        ("handler", "handler.py"),
        ("modelFile", "model.py"),
        ("modelVersion", "1.0"),
        ("requirementsFile", "requirements.txt"),
        ("configFile", "model-config.yaml"),
    ]
    assert (manifest["runtime"], manifest["archiverVersion"]) == ("python3", "0.12.0")


@pytest.mark.row("6-archiver")
@pytest.mark.parametrize(
    ("handler", "packed"),
    [
        ("handler", True),
        ("handler:go", True),
        ("base_handler", False),
        ("image_classifier", False),
        ("image_segmenter", False),
        ("object_detector", False),
        ("text_classifier", False),
        ("dali_image_classifier", False),
        ("vllm_handler", False),
        ("trt_llm_handler", False),
    ],
)
def test_handlers_by_name_and_by_function(workshop, handler, packed):
    assert archive(workshop, handler=handler).returncode == 0
    names, manifest = content(workshop.store / "m.mar")
    assert manifest["model"]["handler"] == handler
    assert ("handler.py" in names) is packed


@pytest.mark.row("6-archiver")
def test_the_archiver_tells_its_version_of_a_model_and_force(workshop):
    archive(workshop)
    again = archive(workshop)
    target = "store/m.mar"
    assert again.returncode == 1
    assert again.stderr.startswith(
        f"ERROR - {target} already exists.\nPlease specify --force/-f option to overwrite the model"
        " archive output file.\nSee -h/--help for more details.\n"
    )
    forced = archive(workshop, "--force")
    assert (forced.returncode, forced.stderr) == (0, f"WARNING - Overwriting {target} ...\n")


@pytest.mark.row("6-archiver")
@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        pytest.param(
            ["--extra-files", "gone*,labels.json"],
            0,
            "WARNING - Given wildcard pattern did not match any file: gone*\n",
            id="a wildcard without a match",
        ),
        pytest.param(
            ["--extra-files", "gone.txt"], 1, "File does not exist: gone.txt\n", id="no extra file"
        ),
        pytest.param(["--serialized-file", "gone.pt"], 1, "gone.pt", id="no weights"),
        pytest.param(["--export-path", "model.py"], 1, "Given export-path model.py is not a "
                     "directory. Point to a valid export-path directory.\n", id="no directory"),
        pytest.param(["--archive-format", "rar"], 2, "invalid choice: 'rar' (choose from 'tgz', "
                     "'no-archive', 'zip-store', 'default')\n", id="no such format"),
        pytest.param(["--runtime", "java"], 2, "invalid choice: 'java' (choose from 'python', "
                     "'python3', 'LSP')\n", id="no such runtime"),
    ],
)  # fmt: skip
def test_what_the_archiver_says(workshop, flags, status, says):
    made = archive(workshop, *flags)
    assert made.returncode == status
    assert says in made.stderr


@pytest.mark.row("6-export-path", only="ours")
def test_an_export_path_that_is_not_there_is_made(workshop):
    made = archive(workshop, "--export-path", "new/store")
    assert (made.returncode, made.stderr) == (0, "")
    assert (workshop.folder / "new" / "store" / "m.mar").is_file()


@pytest.mark.row("6-archiver")
def test_the_archiver_names_the_flags_that_it_needs(workshop):
    made = workshop.run(program="torch-model-archiver")
    assert made.returncode == 2
    assert made.stderr.endswith(
        "torch-model-archiver: error: the following arguments are required: --model-name, "
        "--handler, -v/--version\n"
    )
    usage = made.stderr.partition("torch-model-archiver: error")[0]
    assert usage == (
        "usage: torch-model-archiver [-h] --model-name MODEL_NAME\n"
        "                            [--serialized-file SERIALIZED_FILE]\n"
        "                            [--model-file MODEL_FILE] --handler HANDLER\n"
        "                            [--extra-files EXTRA_FILES]\n"
        "                            [--runtime {python,python3,LSP}]\n"
        "                            [--export-path EXPORT_PATH]\n"
        "                            [--archive-format {tgz,no-archive,zip-store,default}]\n"
        "                            [-f] -v VERSION [-r REQUIREMENTS_FILE]\n"
        "                            [-c CONFIG_FILE]\n"
    )


@pytest.mark.row("6-archiver")
@pytest.mark.parametrize(
    "extra", ["*.json,ex*/*.txt", "labels.json,extra/a.txt", "label?.json,extra/a*"]
)
def test_wildcards_among_the_extra_files(workshop, extra):
    assert archive(workshop, "--extra-files", extra).returncode == 0
    names, _ = content(workshop.store / "m.mar")
    assert {"labels.json", "a.txt"} <= set(names)
    assert not {"inner/b.txt", "c.txt"} & set(names)


@pytest.mark.row("6-names")
@pytest.mark.parametrize("name", ["../m", "_m", "m m", "m/1", ".m", "ä"])
def test_names_are_letters_digits_and_a_few_signs(workshop, name):
    made = archive(workshop, name=name)
    assert made.returncode == 1
    assert made.stderr.startswith(
        "ERROR - Model name contains special characters.\nThe allowed regular expression filter "
        "for model name is: ^[A-Za-z0-9][A-Za-z0-9_\\-.]*$\n"
    )
    assert not list(workshop.store.iterdir())


@pytest.mark.row("6-names")
def test_names_with_all_that_is_allowed(workshop):
    assert archive(workshop, name="0m_-.M").returncode == 0
    assert (workshop.store / "0m_-.M.mar").is_file()


FORMATS = {"default": ".mar", "zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}


@pytest.mark.row("6-archiver", "6-mar", "6-tgz", "6-no-archive", "6-no-checks")
@pytest.mark.parametrize("archive_format", FORMATS)
@pytest.mark.parametrize("whose", ["its own", "ours"])
def test_every_format_is_made_and_served(ts, workshop, archive_format, whose):
    if whose == "ours":  # either runtime opens the other's archives
        place = type(workshop)(ours(), workshop.folder / "ours", workshop.ports)
        for file in ("handler.py", "labels.json"):
            shutil.copy(workshop.folder / file, place.folder)
    else:
        place = workshop
    name = f"m-{archive_format}-{whose[0]}"
    flags = ("--extra-files", "labels.json", "--archive-format", archive_format)
    assert archive(place, *flags, name=name).returncode == 0
    made = f"{name}{FORMATS[archive_format]}"
    shutil.move(place.store / made, ts.place.store)
    assert ts.manage("POST", "/models", url=made, initial_workers=1).status == 200
    seen = ts.predict(name).json
    assert seen["files"] == ["MAR-INF", "handler.py", "labels.json"]
    assert ts.manage("DELETE", f"/models/{name}").status == 200
    assert (ts.place.store / made).exists()


@pytest.mark.row("6-tgz")
def test_a_tgz_of_somebody_elses_making(ts, tmp_path):
    source = tmp_path / "whatever"
    (source / "MAR-INF").mkdir(parents=True)
    (source / "handler.py").write_text(LISTS)
    manifest = {"runtime": "python", "model": {"modelName": "byhand", "handler": "handler.py"}}
    (source / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    with tarfile.open(ts.place.store / "byhand.tgz", "w:gz") as made:
        for file in ("handler.py", "MAR-INF/MANIFEST.json"):
            made.add(source / file, f"whatever/{file}")
    assert ts.manage("POST", "/models", url="byhand.tgz", initial_workers=1).status == 200
    assert ts.predict("byhand").json["files"] == ["MAR-INF", "handler.py"]
    assert ts.describe("byhand")["modelVersion"] == "1.0"


@pytest.mark.row("6-no-archive")
def test_a_directory_is_used_in_place(ts):
    folder = ts.place.store / "inplace"
    (folder / "MAR-INF").mkdir(parents=True)
    (folder / "handler.py").write_text(LISTS)
    manifest = {"runtime": "python", "model": {"modelName": "inplace", "handler": "handler.py"}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    assert ts.manage("POST", "/models", url="inplace", initial_workers=1).status == 200
    (folder / "later.txt").write_text("")
    assert "later.txt" in ts.predict("inplace").json["files"]
    assert ts.manage("DELETE", "/models/inplace").status == 200
    assert (folder / "handler.py").is_file()


@pytest.mark.row("6-no-archive")
def test_a_directory_around_the_directory_is_looked_through(ts):
    inner = ts.place.store / "around" / "inner"
    (inner / "MAR-INF").mkdir(parents=True)
    (inner / "handler.py").write_text(LISTS)
    manifest = {"runtime": "python", "model": {"modelName": "around", "handler": "handler.py"}}
    (inner / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    assert ts.manage("POST", "/models", url="around", initial_workers=1).status == 200
    assert ts.predict("around").json["files"] == ["MAR-INF", "handler.py"]


@pytest.mark.row("6-mar", "6-tgz", "6-no-archive")
def test_all_models_of_a_store_are_archives_tars_directories_and_what_ends_in_model(serve):
    def prepare(place):
        for name in ("zipped", "tarred", "named", "bare"):
            (place.folder / f"{name}.py").write_text(LISTS)
        write_mar(place.store, "zipped", LISTS)
        for name, ending in (("tarred", ".tar.gz"), ("named", ".model")):
            write_mar(place.folder, name, LISTS)
            with (
                zipfile.ZipFile(place.folder / f"{name}-1.0.mar") as zipped,
                tarfile.open(place.store / f"{name}{ending}", "w:gz") as tarred,
            ):
                zipped.extractall(place.folder / name)  # noqa: S202  our own archive
                tarred.add(place.folder / name, name)
        write_mar(place.folder, "bare", LISTS)
        shutil.unpack_archive(place.folder / "bare-1.0.mar", place.store / "bare", "zip")
        (place.store / "readme.txt").write_text("no model")
        (place.store / ".hidden").mkdir()

    ts = serve(config={"load_models": "all", "default_workers_per_model": "1"}, prepare=prepare)
    listed = [model["modelName"] for model in ts.manage("GET", "/models").json["models"]]
    assert listed == ["bare", "named", "tarred", "zipped"]


@pytest.mark.row("6-manifest")
def test_the_handler_sees_the_whole_manifest(ts):
    more = {"extensions": {"a": [1]}, "description": "a model", "customKey": {"b": None}}
    with ts.registered(LISTS, version="2.5", **more) as model:
        seen = ts.predict(model).json["manifest"]
    assert (seen["createdOn"], seen["archiverVersion"]) == ("01/01/2024 00:00:00", "0.12.0")
    assert seen["model"] | more == seen["model"]
    assert (seen["model"]["modelVersion"], seen["model"]["handler"]) == ("2.5", "handler.py")


@pytest.mark.row("6-manifest")
@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ({"runtime": "java", "model": {"modelName": "odd", "handler": "handler.py"}}, "Runtime is"),
        ({"runtime": "python", "model": {"handler": "handler.py"}}, "Model name is not defined."),
        ({"runtime": "python"}, "Model name is not defined."),
    ],
    ids=["an unknown runtime", "no name", "no model"],
)
def test_a_manifest_that_does_not_do_is_an_invalid_model(ts, manifest, says):
    with zipfile.ZipFile(ts.place.store / "odd.mar", "w") as made:
        made.writestr("handler.py", LISTS)
        made.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    answer = ts.manage("POST", "/models", url="odd.mar")
    assert (answer.status, answer.json["type"]) == (400, "InvalidModelException")
    assert answer.json["message"].startswith(says)


@pytest.mark.row("6-no-manifest")
def test_without_a_manifest_the_call_names_model_and_handler(ts):
    with zipfile.ZipFile(ts.place.store / "nomanifest.mar", "w") as made:
        made.writestr("handler.py", LISTS)
    asked = {"url": "nomanifest.mar", "initial_workers": 1}
    refused = ts.manage("POST", "/models", **asked)
    assert (refused.status, refused.json["type"]) == (400, "InvalidModelException")
    named = ts.manage("POST", "/models", **asked, model_name="given", handler="handler.py")
    assert named.status == 200
    assert ts.describe("given")["modelVersion"] == "1.0"
    assert ts.predict("given").json["files"] == ["handler.py"]


@pytest.mark.row("6-zip-slip")
def test_an_entry_that_escapes_is_an_error(ts):
    archive = ts.add_archive(LISTS, "slip", files={"../../escaped.txt": "x"})
    answer = ts.manage("POST", "/models", url=archive)
    assert answer.status >= 400
    assert not list(ts.place.folder.rglob("escaped.txt"))
    assert ts.manage("GET", "/models/slip").status == 404


@pytest.mark.row("6-broken", only="ours")
@pytest.mark.parametrize("name", ["broken.mar", "broken.tar.gz"])
def test_a_broken_archive_is_an_invalid_model_whatever_its_format(ts, name):
    (ts.place.store / name).write_text("this is no archive")
    answer = ts.manage("POST", "/models", url=name)
    assert (answer.status, answer.json["type"]) == (400, "InvalidModelException")
    assert answer.json["message"].startswith(f"{name}: not a complete")


@pytest.mark.row("6-broken", only="ours")
def test_a_dangerous_entry_is_named(ts):
    archive = ts.add_archive(LISTS, "dangerous", files={"../escaped.txt": "x"})
    answer = ts.manage("POST", "/models", url=archive)
    assert (answer.status, answer.json["type"]) == (400, "InvalidModelException")
    assert "'../escaped.txt' points outside the archive" in answer.json["message"]


PICKLED = b"cos\nsystem\n(S'touch unpickled'\ntR."


@pytest.mark.row("6-mar")
def test_nothing_in_an_archive_runs_because_it_is_registered(ts):
    files = {"weights.pt": PICKLED, "sitecustomize.py": "open('imported', 'w')"}
    archive = ts.add_archive("open('imported', 'w')", "quiet", files=files)
    assert ts.manage("POST", "/models", url=archive, initial_workers=0).status == 200
    assert ts.describe("quiet")["workers"] == []
    left = [it.name for it in ts.place.folder.rglob("*") if it.name in {"imported", "unpickled"}]
    assert left == []


@pytest.mark.row("6-extraction")
def test_an_archive_is_extracted_below_the_temp_directory_until_it_is_unregistered(ts):
    with ts.registered(LISTS) as model:
        folder = Path(ts.predict(model).json["dir"])
        assert folder.is_relative_to(ts.place.temp)
        assert (folder / "handler.py").is_file()
    assert not folder.exists()


@pytest.mark.row("6-working-directory")
def test_a_worker_works_in_its_models_directory_and_imports_from_it(ts):
    handler = "from beside import WORD\n" + LISTS.replace('"files": files', '"files": WORD')
    with ts.registered(handler, files={"beside.py": "WORD = 'found'"}) as model:
        seen = ts.predict(model).json
    assert seen["files"] == "found"
    assert seen["cwd"] == seen["dir"]
    assert seen["dir"] in seen["path"].split(":")


# requirements

REQUIRES = """
    import importlib.util, sys

    def handle(data, context):
        if data is None:
            return None
        if importlib.util.find_spec("tiny_words") is None:
            return ["none" for _ in data]
        import tiny_words
        return [{"version": tiny_words.VERSION, "venv": "/venv" in sys.prefix} for _ in data]
"""


@pytest.fixture(scope="module")
def installing(serve_module, tmp_path_factory):
    """A server that installs requirements, out of a folder of wheels, and has a pip to do so."""
    folder = tmp_path_factory.mktemp("installing")
    write_wheel(folder / "wheels", "tiny_words", "1.0")
    write_wheel(folder / "wheels", "tiny_words", "2.0", requires=("numpy",))
    (folder / "path").mkdir()
    (folder / "path" / "pip").symlink_to(Path(pip.__file__).parent, target_is_directory=True)
    environ = {"PYTHONPATH": str(folder / "path"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environ |= from_wheels(folder / "wheels")
    return serve_module(config={"install_py_dep_per_model": "true"}, env=environ)


def requiring(line, **config):
    return {"files": {"requirements.txt": line}, "requirementsFile": "requirements.txt", **config}


@pytest.mark.row("6-requirements", "4.2-requirements")
def test_requirements_are_installed_for_the_model(installing):
    with installing.registered(REQUIRES, **requiring("tiny_words==1.0\n")) as model:
        assert installing.predict(model).json == {"version": "1.0", "venv": False}
    with installing.registered(REQUIRES) as other:
        assert installing.predict(other).text == "none"


@pytest.mark.row("6-requirements", "4.2-requirements")
def test_they_are_not_installed_unless_the_server_allows_it(ts):
    with ts.registered(REQUIRES, **requiring("tiny_words==1.0\n")) as model:
        assert ts.predict(model).text == "none"


@pytest.mark.row("6-requirements-venv")
def test_requirements_are_installed_into_the_models_virtual_environment(installing):
    more = requiring("tiny_words==1.0\n", config="useVenv: true")
    with installing.registered(REQUIRES, **more) as model:
        assert installing.predict(model).json == {"version": "1.0", "venv": True}


@pytest.mark.row("6-requirements")
def test_requirements_that_cannot_be_installed_refuse_the_model(installing):
    archive = installing.add_archive(REQUIRES, "cannot", **requiring("nobody_has_this==9\n"))
    answer = installing.manage("POST", "/models", url=archive)
    assert (answer.status, answer.json["type"]) == (400, "ModelException")
    assert answer.json["message"].startswith(
        "Custom pip package installation failed for model cannot"
    )


@pytest.mark.row("6-requirements-refused", "2.1-requirements-fail", only="ours")
def test_a_refused_model_does_not_stay_and_the_answer_says_why(installing):
    archive = installing.add_archive(REQUIRES, "gone", **requiring("nobody_has_this==9\n"))
    answer = installing.manage("POST", "/models", url=archive)
    assert "nobody" in answer.json["message"].replace("-", "_").partition("model gone: ")[2]
    assert installing.manage("GET", "/models/gone").status == 404


@pytest.mark.row("6-requirements-kept", only="ours")
def test_what_the_runtime_has_is_not_installed_again(installing):
    """`tiny_words` 2.0 needs numpy, of which there is no wheel but the installed one's."""
    with installing.registered(REQUIRES, **requiring("tiny_words==2.0\n")) as model:
        assert installing.predict(model).json == {"version": "2.0", "venv": False}
