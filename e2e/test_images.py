"""Our images: what is in them, whom they run as, and that they are built when needed only."""

import json
import secrets
import shutil
import tarfile

import pytest

from e2e.cluster import stock
from e2e.images import build, recipes
from e2e.images.recipes import OPERATOR, RECIPES, RUNTIME, RUNTIME_TORCH

# The first run on a machine builds Kubernetes and the images.
pytestmark = pytest.mark.timeout(3600)

# Where a pod may write: what is mounted there.
FOLDERS = {"temporary": "/tmp", "state": "/var/lib/flambeau"}  # noqa: S108  the pod's own
# What a pod tells of itself, as one line of JSON.
LOOK = """
import importlib.util, json, os, pathlib, shutil
def writable(folder):
    try:
        pathlib.Path(folder, "probe").touch()
    except OSError as error:
        return error.strerror
    return "yes"
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "home": os.path.expanduser("~"),
    "refused": {name: writable(name) for name in ("/opt/flambeau", os.environ["HOME"])},
    "writable": writable(os.environ["TMPDIR"]),
    "found": [name for name in ("torch", "flambeau_runtime", "ts", "flambeau_operator", "uv")
              if importlib.util.find_spec(name)],
    "commands": [name for name in ("flambeau-runtime", "torchserve", "torch-model-archiver",
                                   "flambeau", "uv", "hatchling") if shutil.which(name)],
    "secrets": [str(path) for path in pathlib.Path("/run/secrets").glob("*")
                if path.name != "kubernetes.io"],
}))
"""


@pytest.fixture(scope="module")
def archives():
    return build.built(print)


@pytest.fixture(scope="module")
def namespace(cluster, archives):
    """A namespace that admits restricted pods only, on a cluster that has the images."""
    for archive in archives.values():
        cluster.load(archive)
    name = f"images-{secrets.token_hex(4)}"
    cluster.run("create", "namespace", name)
    level = "pod-security.kubernetes.io/enforce=restricted"
    cluster.run("label", "namespace", name, level)
    yield name
    cluster.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def seen(cluster, namespace):
    """What a pod of each image tells of itself."""
    told = {}
    for recipe in RECIPES:
        told[recipe] = json.loads(_output(cluster, namespace, recipe, ["python", "-c", LOOK]))
    return told


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.short)
def test_an_archive_names_its_image_and_the_image_its_user(archives, recipe):
    manifest, config = _read(archives[recipe.name])
    assert manifest["annotations"]["org.opencontainers.image.ref.name"] == recipe.name
    assert config["User"] == "1000:1000"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == recipes.version()


@pytest.mark.parametrize(
    ("recipe", "entrypoint"),
    [
        (OPERATOR, ["python", "-m", "flambeau_operator"]),
        (RUNTIME, ["/usr/local/bin/dockerd-entrypoint.sh"]),
        (RUNTIME_TORCH, ["/usr/local/bin/dockerd-entrypoint.sh"]),
    ],
    ids=lambda value: getattr(value, "short", None),
)
def test_an_image_starts_what_it_is_named_after(archives, recipe, entrypoint):
    _, config = _read(archives[recipe.name])
    assert config["Entrypoint"] == entrypoint


def test_every_image_runs_as_a_user_without_rights_on_a_read_only_root(seen):
    for recipe, told in seen.items():
        assert told["user"] == [1000, 1000], recipe
        refused = "Read-only file system"
        assert told["refused"] == {"/opt/flambeau": refused, told["home"]: refused}
        assert told["writable"] == "yes"


def test_torch_is_in_the_image_that_is_called_so_and_in_no_other(cluster, namespace, seen):
    assert [recipe for recipe, told in seen.items() if "torch" in told["found"]] == [RUNTIME_TORCH]
    add = "import torch; print(int(torch.ones(2).sum()))"
    assert _output(cluster, namespace, RUNTIME_TORCH, ["python", "-c", add]) == "2\n"


def test_an_image_holds_its_own_package_and_no_tool_that_built_it(seen):
    runtime = ["flambeau-runtime", "torchserve", "torch-model-archiver"]
    for recipe, told in seen.items():
        own = ["flambeau_operator"] if recipe == OPERATOR else ["flambeau_runtime", "ts"]
        assert [name for name in told["found"] if name != "torch"] == own
        assert told["commands"] == ([] if recipe == OPERATOR else runtime)
        assert told["secrets"] == []


@pytest.mark.parametrize("recipe", [RUNTIME, RUNTIME_TORCH], ids=lambda recipe: recipe.short)
def test_the_runtimes_entry_point_takes_its_flags(cluster, namespace, recipe):
    said = _output(cluster, namespace, recipe, None, ["--version"])
    assert said == f"flambeau-runtime {recipes.version()}\n"


@pytest.mark.parametrize(
    ("recipe", "imports"),
    [
        (OPERATOR, "flambeau_operator.reconcile, flambeau_operator.runtime_client"),
        (RUNTIME, "flambeau_runtime.__main__"),
        (RUNTIME_TORCH, "flambeau_runtime.__main__, flambeau_runtime.worker.loop, torch"),
    ],
    ids=lambda value: getattr(value, "short", None),
)
def test_nothing_is_compiled_when_a_pod_starts(cluster, namespace, recipe, imports):
    verbose = ["python", "-v", "-c", f"import {imports}"]
    lines = _output(cluster, namespace, recipe, verbose).splitlines()
    # Of a compiled module the path is quoted.
    assert [line for line in lines if line.startswith("# code object from '")]
    assert [line for line in lines if line.startswith("# code object from /")] == []


def test_a_runtime_serves_in_a_restricted_pod(cluster, namespace):
    addresses = [
        f"--{role}-address=0.0.0.0:{port}"
        for role, port in (("inference", 8080), ("management", 8081), ("metrics", 8082))
    ]
    pod = _pod("serving", RUNTIME_TORCH, None, ["--state-dir=/var/lib/flambeau", *addresses])
    ready = {"httpGet": {"path": "/ping", "port": 8080}, "periodSeconds": 1}
    pod["spec"]["containers"][0]["readinessProbe"] = ready
    cluster.run("-n", namespace, "apply", "-f", "-", given=json.dumps(pod))
    cluster.run("-n", namespace, "wait", "pod/serving", "--for=condition=Ready", "--timeout=120s")


def test_what_is_built_is_not_built_again(archives):
    before = {name: archive.stat().st_ino for name, archive in archives.items()}
    said = []
    again = build.built(said.append)
    assert said == []
    assert {name: archive.stat().st_ino for name, archive in again.items()} == before


@pytest.mark.parametrize(
    ("changed", "anew"),
    [
        ("operator/src/flambeau_operator/names.py", [OPERATOR]),
        ("runtime/src/ts/version.py", [RUNTIME, RUNTIME_TORCH]),
        ("runtime/Dockerfile", [RUNTIME, RUNTIME_TORCH]),
        ("uv.lock", [OPERATOR, RUNTIME, RUNTIME_TORCH]),
        ("runtime/src/ts/__pycache__/version.cpython-311.pyc", []),
        ("README.md", []),
    ],
)
def test_a_change_builds_the_images_anew_that_it_goes_into(tmp_path, monkeypatch, changed, anew):
    for name in (*recipes.COMMON, "README.md", "operator/src", "operator/Dockerfile"):
        _copy(name, tmp_path)
    for name in ("runtime/src", "runtime/Dockerfile"):
        _copy(name, tmp_path)
    monkeypatch.setattr(recipes, "CHECKOUT", tmp_path)
    before = {recipe: recipe.digest({}) for recipe in RECIPES}
    (tmp_path / changed).parent.mkdir(exist_ok=True)
    with (tmp_path / changed).open("ab") as file:
        file.write(b"\n")
    assert [recipe for recipe in RECIPES if recipe.digest({}) != before[recipe]] == anew


def _copy(name, folder):
    source, target = recipes.CHECKOUT / name, folder / name
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _read(archive):
    with tarfile.open(archive) as tar:

        def content(name):
            return json.load(tar.extractfile(name))

        (entry,) = content("index.json")["manifests"]
        manifest = content(f"blobs/{entry['digest'].replace(':', '/')}")
        return entry, content(f"blobs/{manifest['config']['digest'].replace(':', '/')}")["config"]


def _output(cluster, namespace, recipe, command, arguments=()):
    name = f"look-{secrets.token_hex(4)}"
    pod = _pod(name, recipe, command, arguments)
    cluster.run("-n", namespace, "apply", "-f", "-", given=json.dumps(pod))
    ended = ["--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s"]
    cluster.run("-n", namespace, "wait", f"pod/{name}", *ended, timeout_s=130)
    return cluster.run("-n", namespace, "logs", name)


def _pod(name, recipe, command, arguments):
    container = {
        "name": "main",
        "image": recipe.name,
        "imagePullPolicy": "Never",
        "args": list(arguments),
        "securityContext": stock.RESTRICTED,
        "volumeMounts": [{"name": one, "mountPath": path} for one, path in FOLDERS.items()],
    } | ({"command": command} if command else {})
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": one, "emptyDir": {}} for one in FOLDERS],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
