import gc
import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings, strategies as st

from flambeau_runtime.serving import arena as module
from flambeau_runtime.serving.arena import Arena

MIB = 1024 * 1024


def test_what_is_written_to_a_region_is_at_its_place_in_the_file():
    arena = Arena.create(MIB)
    first, second = arena.take(10), arena.take(20)
    second.view[:] = b"x" * 20
    with open(f"/proc/self/fd/{arena.fd}", "rb") as file:  # noqa: PTH123  a descriptor
        file.seek(second.offset)
        assert file.read(20) == b"x" * 20
    assert first.offset != second.offset


def test_a_region_is_free_again_when_the_last_one_lets_go():
    arena = Arena.create(MIB)
    region = arena.take(300_000)
    held = [region]
    del region
    assert arena.free_bytes < MIB
    held.clear()
    assert arena.free_bytes == MIB


def test_a_full_arena_says_so():
    arena = Arena.create(MIB)
    kept = arena.take(MIB)
    assert arena.take(1) is None
    del kept
    assert arena.take(1) is not None


def open_inodes():
    inodes = set()
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # the listing's own is closed by now
            inodes.add(os.fstat(int(descriptor.name)).st_ino)
    return inodes


def test_the_descriptor_is_closed_with_the_arena():
    arena = Arena.create(MIB)
    inode = os.fstat(arena.fd).st_ino
    region = arena.take(5)
    assert inode in open_inodes()
    del arena, region
    gc.collect()
    assert inode not in open_inodes()


def test_memory_beyond_what_is_kept_goes_back_to_the_system(monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", MIB)
    arena = Arena.create(8 * MIB)
    region = arena.take(4 * MIB)
    region.view[:] = bytes(4 * MIB)
    del region
    with open(f"/proc/self/fd/{arena.fd}", "rb") as file:  # noqa: PTH123  a descriptor
        assert os.fstat(file.fileno()).st_blocks * 512 <= MIB


@given(st.lists(st.one_of(st.integers(1, 400_000), st.none()), max_size=60), st.randoms())
@settings(max_examples=60)
def test_regions_never_overlap_and_all_come_back(steps, dice):
    arena = Arena.create(2 * MIB)
    held = []
    for step in steps:
        if step is None and held:
            held.pop(dice.randrange(len(held)))
        elif step is not None:
            region = arena.take(step)
            if region is not None:
                held.append(region)
        places = sorted((region.offset, region.offset + region.size) for region in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(places))
    held.clear()
    region = None
    assert arena.free_bytes == 2 * MIB
    assert len(arena._holes) == 1
