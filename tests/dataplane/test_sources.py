"""Which places a source may name."""

import pytest

from flambeau_runtime.archive.sources import EVERYWHERE, Local, Remote, resolve
from flambeau_runtime.errors import SourceNotFound

ALL = EVERYWHERE


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store" / "folder").mkdir(parents=True)
    (tmp_path / "store" / "x.mar").write_bytes(b"x")
    (tmp_path / "store" / "with space.mar").write_bytes(b"x")
    return tmp_path / "store"


@pytest.mark.parametrize("name", ["x.mar", "folder", "with space.mar"])
def test_a_name_is_looked_up_in_the_model_store(store, name):
    assert resolve(name, store, ALL) == Local(store / name)


def test_files_may_be_named_by_url_or_by_absolute_path(store):
    assert resolve(f"file://{store}/x.mar", None, ALL) == Local(store / "x.mar")
    assert resolve(f"file://{store}/with%20space.mar", None, ALL) == Local(store / "with space.mar")
    assert resolve(str(store / "folder"), None, ALL) == Local(store / "folder")


def test_credentials_in_a_url_are_used_but_never_shown():
    uri = "https://me:secret@models.example/x.mar?signature=s3cret"
    assert resolve(uri, None, ALL) == Remote(uri, "https://models.example/x.mar")


REFUSED = [
    ("nothing", "", "^empty url$"),
    ("a name not in the store", "gone.mar", "^Model not found at: gone.mar$"),
    ("a way up", "../x.mar", r"^Relative path is not allowed in url: \.\./x.mar$"),
    ("a way up in disguise", "file:///a/%2e%2e/x.mar", "Relative path is not allowed"),
    ("a way up in a URL", "https://h/a/../x.mar", "Relative path is not allowed"),
    ("a missing path", "/gone.mar", "^Model not found at: /gone.mar$"),
    ("a missing file", "file:///gone.mar", "^Model not found at: file:///gone.mar$"),
    ("a scheme not known", "ftp://host/x.mar", "^Model not found at: ftp://host/x.mar$"),
    ("the metadata service", "http://169.254.169.254/latest/x.mar", "link-local"),
    ("a link-local IPv6 address", "http://[fe80::1]/x.mar", "link-local"),
    ("IPv4 dressed as IPv6", "http://[::ffff:169.254.169.254]/x.mar", "link-local"),
    ("a URL without a host", "http:///x.mar", "no host"),
    ("a URL that is none", "http://[oops/x.mar", "Model not found at"),
]


@pytest.mark.parametrize(
    ("uri", "why"), [pytest.param(uri, why, id=name) for name, uri, why in REFUSED]
)
def test_other_places_are_refused(store, uri, why):
    with pytest.raises(SourceNotFound, match=why):
        resolve(uri, store, ALL)


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        pytest.param("https://models.corp/x.mar", True, id="a URL that matches"),
        pytest.param("HTTPS://MODELS.CORP/x.mar", True, id="in capitals"),
        pytest.param("https://models.corp.evil/x.mar", False, id="one that only begins like it"),
        pytest.param("file:///etc/passwd", False, id="a file, when only a host is allowed"),
        pytest.param("/etc/passwd", False, id="the same file by its path"),
    ],
)
def test_allowed_urls_match_as_a_whole_and_in_any_case(uri, allowed):
    patterns = (r"https://models\.corp/.*",)
    if allowed:
        assert isinstance(resolve(uri, None, patterns), Remote)
    else:
        with pytest.raises(SourceNotFound, match=r"^Given URL .* does not match any allowed URL"):
            resolve(uri, None, patterns)
