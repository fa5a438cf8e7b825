"""The document that goes to a pod, and what a pod of any release may answer."""

from __future__ import annotations

import json

from hypothesis import example, given, strategies as st

from flambeau_operator.resources.pod_state import (
    Document,
    ModelEntry,
    Owner,
    SourceEntry,
    VersionEntry,
    VersionPhase,
    WarmupEntry,
)
from flambeau_operator.resources.pod_state_json import (
    document_from_json,
    document_to_json,
    pod_state_from_json,
)

text = st.text(max_size=10)
seconds = st.floats(0, 86_400)
versions = st.builds(
    VersionEntry,
    version=text,
    source=st.builds(SourceEntry, uri=text, digest=st.none() | text),
    workers=st.integers(0, 9),
    max_size=st.integers(1, 99),
    max_delay_s=seconds,
    response_s=seconds,
    startup_s=seconds,
    env=st.dictionaries(text, text, max_size=2),
    warmup=st.lists(
        st.builds(WarmupEntry, body=text, content_type=text, repeat=st.integers(1, 9)), max_size=2
    ).map(tuple),
)
models = st.builds(
    ModelEntry,
    name=text,
    default=st.none() | text,
    versions=st.lists(versions, max_size=2).map(tuple),
    required=st.booleans(),
)
documents = st.builds(
    Document,
    owner=st.builds(Owner, namespace=text, name=text, uid=text),
    sequence=st.integers(0, 2**40),
    generation=st.integers(0, 2**40),
    models=st.lists(models, max_size=2).map(tuple),
)


@given(documents)
def test_a_document_that_was_written_is_read_again(document):
    assert document_from_json(json.loads(json.dumps(document_to_json(document)))) == document


def test_a_document_is_spelt_as_the_runtime_reads_it():
    entry = VersionEntry("1.0", SourceEntry("file:///a.mar"), env={"A": "1"})
    document = Document(Owner("default", "vision", "u"), 3, 2, (ModelEntry("m", "1.0", (entry,)),))
    assert document_to_json(document) == {
        "owner": {"namespace": "default", "name": "vision", "uid": "u"},
        "sequence": 3,
        "generation": 2,
        "models": [
            {
                "name": "m",
                "required": True,
                "default": "1.0",
                "versions": [
                    {
                        "version": "1.0",
                        "source": {"uri": "file:///a.mar", "digest": None},
                        "workers": {"min": 1},
                        "batching": {"maxSize": 1, "maxDelaySeconds": 0.1},
                        "timeouts": {"responseSeconds": 120.0, "startupSeconds": 300.0},
                        "env": {"A": "1"},
                        "warmup": [],
                    }
                ],
            }
        ],
    }


def test_an_answer_is_read():
    state = pod_state_from_json(
        {
            "revision": 7,
            "processId": "p",
            "desired": None,
            "observed": {
                "ready": True,
                "draining": False,
                "models": [
                    {
                        "name": "m",
                        "default": "1.0",
                        "ready": True,
                        "versions": [
                            {
                                "version": "1.0",
                                "phase": "Ready",
                                "weight": 100,
                                "workers": {"wanted": 2, "ready": 1, "starting": 1},
                                "digest": "sha256:aa",
                                "bytes": 10,
                            },
                            {
                                "version": "2.0",
                                "phase": "Failed",
                                "lastFailure": {"reason": "R", "message": "m", "logTail": "l"},
                            },
                        ],
                    }
                ],
            },
        }
    )
    assert (state.revision, state.ready, state.draining) == ("7", True, False)
    first, second = state.models[0].versions
    assert (first.phase, first.workers.wanted, first.workers.ready) == (VersionPhase.READY, 2, 1)
    assert second.failure is not None
    assert (second.failure.reason, second.failure.log_tail) == ("R", "l")


def test_a_newer_runtime_may_say_more_and_use_phases_that_are_not_known_here():
    state = pod_state_from_json(
        {
            "revision": "x",
            "mood": "good",
            "observed": {
                "ready": True,
                "models": [{"name": "m", "versions": [{"version": "1", "phase": "Polishing"}]}],
            },
        }
    )
    seen = state.version("m", "1")
    assert seen is not None
    assert seen.phase is VersionPhase.UNKNOWN


KNOWN = ["observed", "desired", "models", "versions", "version", "phase", "workers", "ready"]
KNOWN += ["owner", "source", "batching", "maxSize", "env", "warmup", "lastFailure", "sequence"]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KNOWN),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@example({"desired": {"sequence": float("inf")}})
@example({"desired": {"models": [{"versions": [{"workers": {"min": float("nan")}}]}]}})
@given(st.dictionaries(st.sampled_from(["observed", "desired", "revision"]), anything))
def test_an_older_or_stranger_runtime_may_leave_out_or_twist_anything(answer):
    state = pod_state_from_json(answer)
    assert state.ready in {True, False}
