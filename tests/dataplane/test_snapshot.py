"""What a snapshot says goes before what the archive says."""

from __future__ import annotations

from flambeau_runtime.serving.desired import Batching, Source, Timeouts, VersionSpec
from flambeau_runtime.serving.snapshot import restored
from flambeau_runtime.serving.start_models import count_start_workers, has_start_models
from flambeau_runtime.settings import ModelDefaults, Settings

SPEC = VersionSpec(
    "m", "1.0", Source("m.mar"), workers=3, batching=Batching(7, 0.1), timeouts=Timeouts(77, 120)
)
SAVED = ModelDefaults("m", "1.0", min_workers=0, max_workers=2, batch_size=1, response_timeout_s=9)


def test_what_was_saved_is_restored_and_the_rest_stays():
    spec = restored(SPEC, SAVED)
    assert (spec.workers, spec.max_workers) == (0, 2)
    assert spec.batching == Batching(1, 0.1)
    assert spec.timeouts == Timeouts(9, 120)


def test_a_snapshot_takes_the_place_of_models_to_load():
    settings = Settings(load_models=((None, "a.mar"),), workers_per_model=2)
    assert (has_start_models(settings), count_start_workers(settings)) == (True, 2)
    empty = Settings(load_models=((None, "a.mar"),), workers_per_model=2, snapshot=())
    assert (has_start_models(empty), count_start_workers(empty)) == (False, 0)
    saved = Settings(snapshot=(SAVED, ModelDefaults("n", "1.0", min_workers=4)))
    assert (has_start_models(saved), count_start_workers(saved)) == (True, 4)
