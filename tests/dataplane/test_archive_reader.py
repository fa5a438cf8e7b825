"""Archives that are broken or hostile are refused by name, and nothing leaves the target."""

import io
import re
import tarfile
import zipfile
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from flambeau_runtime.archive.reader import ExtractionLimits, ExtractionStopped, extract
from flambeau_runtime.errors import ArchiveInvalid
from tests.dataplane.archives import files, make_mar, make_tgz, tar_member, zip_link

SMALL = ExtractionLimits(entries=5, total_bytes=10_000_000, ratio=10, free_bytes=100_000)


def opened(path, target, **more):
    with path.open("rb") as file:
        extract(file, path.name, target, **more)
    return {
        found.relative_to(target).as_posix(): found.read_text()
        for found in target.rglob("*")
        if found.is_file()
    }


def inside(tmp_path):
    """Everything below tmp_path except what was extracted into its proper place."""
    return {path.name for path in tmp_path.rglob("*") if "target" not in path.parts}


@pytest.mark.parametrize("make", [make_mar, make_tgz], ids=["a zip", "a gzipped tar"])
def test_what_was_packed_comes_out_with_its_folders(tmp_path, make):
    packed = make(tmp_path / "archive", files(data__a_txt="a", data__deep__b_txt="b"))
    assert opened(packed, tmp_path / "target") == files(data__a_txt="a", data__deep__b_txt="b")


def test_a_tar_without_a_top_directory_keeps_its_shape(tmp_path):
    packed = make_tgz(tmp_path / "archive", {"only/x.txt": "x", "y.txt": "y"}, top="")
    assert opened(packed, tmp_path / "target") == {"only/x.txt": "x", "y.txt": "y"}


BAD_NAMES = {
    "../escape.txt": "points outside",
    "a/../../escape.txt": "points outside",
    "/escape.txt": "absolute",
    "C:/escape.txt": "absolute",
    "..\\escape.txt": "backslash",
    "./": "no name",
}


@pytest.mark.parametrize(("name", "why"), BAD_NAMES.items(), ids=BAD_NAMES)
@pytest.mark.parametrize("make", [make_mar, make_tgz], ids=["zip", "tar"])
def test_an_entry_may_not_leave_the_archive(tmp_path, make, name, why):
    if make is make_tgz:
        entry = tarfile.TarInfo(name)
        why = "no name|not a complete" if name == "./" else why
    else:
        entry = name
    packed = make(tmp_path / "archive.x", {entry: "x"})
    with pytest.raises(ArchiveInvalid, match=why) as refused:
        opened(packed, tmp_path / "target")
    assert str(refused.value).startswith("archive.x: ")
    assert inside(tmp_path) == {"archive.x"}


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(names=st.lists(st.text("./\\aB:\0~", min_size=1, max_size=12), max_size=4))
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [make_mar, make_tgz], ids=["zip", "tar"])
def test_no_name_whatsoever_leaves_the_target(tmp_path_factory, make, names):
    tmp_path = tmp_path_factory.mktemp("deep") / "er"
    tmp_path.mkdir()
    entries = dict.fromkeys(names, "x")
    packed = make(tmp_path / "archive", entries)
    with suppress(ArchiveInvalid):
        opened(packed, tmp_path / "target")
    assert inside(tmp_path.parent) <= {"er", "archive"}


@pytest.mark.parametrize(
    ("names", "why"),
    [
        pytest.param([":", ":/:"], "a file and a directory at once", id="a file in a file"),
        pytest.param([":", ":/:/"], "a file and a directory at once", id="a directory in a file"),
        pytest.param(["a/b", "a"], "a file and a directory at once", id="a file over a directory"),
        pytest.param(["n" * 300], "a longer name", id="a name that is too long"),
        pytest.param(["n" * 300 + "/"], "a longer name", id="of a directory too"),
    ],
)
def test_names_that_cannot_stand_side_by_side_are_refused_in_words(tmp_path, names, why):
    packed = make_mar(tmp_path / "archive", dict.fromkeys(names, "x"))
    with pytest.raises(ArchiveInvalid, match=why):
        opened(packed, tmp_path / "target")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(tarfile.SYMTYPE, id="a symbolic link"),
        pytest.param(tarfile.LNKTYPE, id="a hard link"),
        pytest.param(tarfile.CHRTYPE, id="a device"),
        pytest.param(tarfile.FIFOTYPE, id="a pipe"),
    ],
)
def test_a_tar_holds_files_and_directories_only(tmp_path, kind):
    packed = make_tgz(tmp_path / "a.tar.gz", {tar_member("top/evil", kind): b""})
    with pytest.raises(ArchiveInvalid, match=r"'top/evil' is neither a file nor a directory"):
        opened(packed, tmp_path / "target")


def test_a_zip_holds_no_symbolic_links(tmp_path):
    packed = make_mar(tmp_path / "a.mar", {zip_link("evil"): "/etc", "evil/passwd": "x"})
    with pytest.raises(ArchiveInvalid, match="'evil' is neither a file nor a directory"):
        opened(packed, tmp_path / "target")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "why"),
    [
        pytest.param(["a", "./a"], "is there twice", id="one name twice"),
        pytest.param(["a", "a/b"], "a file and a directory at once", id="a file as a folder"),
        pytest.param([f"f{n}" for n in range(6)], "more than 5 entries", id="too many entries"),
    ],
)
def test_entries_that_make_no_sense_together_are_refused(tmp_path, names, why):
    packed = make_mar(tmp_path / "a.mar", dict.fromkeys(names, "x"))
    with pytest.raises(ArchiveInvalid, match=why):
        opened(packed, tmp_path / "target", limits=SMALL)


@pytest.mark.parametrize("make", [make_mar, make_tgz], ids=["zip", "tar"])
def test_a_bomb_is_refused_before_it_goes_off(tmp_path, make):
    packed = make(tmp_path / "bomb", {"zeros": b"\0" * 5_000_000})
    with pytest.raises(ArchiveInvalid, match=r"zeros' would make .* grow .* zip-store"):
        opened(packed, tmp_path / "target", limits=SMALL)
    assert not (tmp_path / "target" / "zeros").exists()


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path):
    packed = make_mar(tmp_path / "a.mar", {"zeros": b"\0" * 5_000_000})
    lying = packed.read_bytes().replace((5_000_000).to_bytes(4, "little"), b"\1\0\0\0")
    packed.write_bytes(lying)
    with pytest.raises(ArchiveInvalid, match="not a complete zip"):
        opened(packed, tmp_path / "target", limits=SMALL)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"", "not a complete zip", id="nothing"),
        pytest.param(b"hello", "not a complete zip", id="some text"),
        pytest.param(b"\x1f\x8bhello", "not a complete gzipped tar", id="a false gzip"),
        pytest.param(b"PK\x03\x04" + b"\0" * 100, "not a complete zip", id="a false zip"),
    ],
)
def test_what_is_no_archive_is_called_that(tmp_path, content, why):
    (tmp_path / "x.mar").write_bytes(content)
    with pytest.raises(ArchiveInvalid, match=re.escape(why)):
        opened(tmp_path / "x.mar", tmp_path / "target")


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(share=st.floats(0, 0.999))
@pytest.mark.parametrize("make", [make_mar, make_tgz], ids=["zip", "tar"])
def test_an_archive_cut_anywhere_is_refused(tmp_path_factory, make, share):
    tmp_path = tmp_path_factory.mktemp("cut")
    whole = make(tmp_path / "archive", files(data_txt="x" * 3000)).read_bytes()
    (tmp_path / "archive").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArchiveInvalid, match="cut short"):
        opened(tmp_path / "archive", tmp_path / "target")


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_zip_is_refused_or_harmless(tmp_path_factory, at, byte):
    tmp_path = tmp_path_factory.mktemp("damaged")
    content = bytearray(make_mar(tmp_path / "a.mar").read_bytes())
    content[at % len(content)] = byte
    with suppress(ArchiveInvalid):
        extract(io.BytesIO(bytes(content)), "a.mar", tmp_path / "target")
    assert inside(tmp_path) == {"a.mar"}


def test_a_tar_whose_checksum_is_wrong_is_refused(tmp_path):
    packed = make_tgz(tmp_path / "a.tar.gz")
    content = bytearray(packed.read_bytes())
    content[-8] ^= 1
    packed.write_bytes(content)
    with pytest.raises(ArchiveInvalid, match="CRC check failed"):
        opened(packed, tmp_path / "target")


def test_an_encrypted_zip_says_so(tmp_path):
    packed = bytearray(make_mar(tmp_path / "a.mar", {"x": "x"}, zipfile.ZIP_STORED).read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(header) + offset] |= 1
    (tmp_path / "a.mar").write_bytes(packed)
    with pytest.raises(ArchiveInvalid, match="encrypted"):
        opened(tmp_path / "a.mar", tmp_path / "target")


def test_an_extraction_nobody_waits_for_stops(tmp_path):
    packed = make_mar(tmp_path / "a.mar")
    with pytest.raises(ExtractionStopped):
        opened(packed, tmp_path / "target", stop=lambda: True)
