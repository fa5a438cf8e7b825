"""What people are told, read from the status and the pods."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flambeau_operator.cli.report import NewEvents, report
from flambeau_operator.doors import Key
from flambeau_operator.plan.plan import Event
from flambeau_operator.session import LocalDeployment, LocalEvent, LocalPod

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAILURE = {"reason": "InitializeFailed", "message": "boom", "pod": "wine-0", "logTail": "a\nb"}


def condition(type_, status, reason, message=""):
    return {"type": type_, "status": status, "reason": reason, "message": message}


def model(**fields):
    return {"name": "classifier", "activeVersion": "1.0", "targetVersion": "1.0", **fields}


def deployment(*, status=None, pods=(), events=(), namespace="default"):
    return LocalDeployment(
        key=Key(namespace, "wine"),
        url="http://127.0.0.1:8080",
        generation=1,
        status=status or {},
        pods=pods,
        events=events,
    )


def pod(**fields):
    known = {
        "name": "wine-0",
        "pid": 12,
        "phase": "Ready",
        "restarts": 0,
        "inference_url": "http://127.0.0.1:4000",
        "management_url": "",
        "log_file": Path("wine-0.log"),
    }
    return LocalPod(**{**known, **fields})


READY = condition("Ready", "True", "AllModelsServing")


def test_before_the_first_pass_nothing_is_claimed():
    seen = report(deployment(), {})
    assert (seen.ready, seen.reason, seen.replicas) == ("Unknown", "Pending", "0/0")


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        pytest.param([], "AllModelsServing", id="at rest: why it is ready"),
        pytest.param(
            [condition("Reconciling", "True", "RolloutInProgress")],
            "RolloutInProgress",
            id="under way: what is going on",
        ),
        pytest.param(
            [condition("Stalled", "True", "RolledBack")], "RolledBack", id="stuck: why it is stuck"
        ),
    ],
)
def test_the_reason_shown_is_the_one_that_says_most(others, reason):
    seen = report(deployment(status={"conditions": [READY, *others]}), {})
    assert (seen.ready, seen.reason) == ("True", reason)


def test_fields_without_effect_are_told():
    nothing = condition("Unsupported", "True", "FieldsWithoutEffect", "spec.resources: no")
    assert report(deployment(status={"conditions": [READY, nothing]}), {}).without_effect == (
        "spec.resources: no"
    )
    assert report(deployment(status={"conditions": [READY]}), {}).without_effect == ""


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        pytest.param({}, "1.0", id="at rest: the version"),
        pytest.param({"targetVersion": "2.0"}, "1.0→2.0", id="on its way: from and to"),
        pytest.param({"activeVersion": None}, "1.0", id="the first time: where it is going"),
    ],
)
def test_a_model_shows_the_version_it_has_and_the_one_it_gets(fields, version):
    seen = report(deployment(status={"models": [model(**fields)]}), {})
    assert seen.models[0].version == version


def test_a_failed_version_is_told_with_pod_reason_and_last_log_lines():
    status = {"models": [model(targetVersion="2.0", rollout={"lastFailure": FAILURE})]}
    (failure,) = report(deployment(status=status), {}).failures
    assert str(failure) == "classifier 2.0 in wine-0: InitializeFailed: boom"
    assert failure.log_tail == "a\nb"


def test_a_pod_that_waits_for_its_restart_says_how_it_died():
    dead = pod(pid=None, phase="BackingOff", last_exit="killed by SIGKILL", inference_url="")
    (row,) = report(deployment(pods=(dead,)), {}).pods
    assert (row.pid, row.port, row.state) == ("-", "-", "BackingOff (killed by SIGKILL)")


def test_a_pod_that_runs_again_shows_pid_and_port():
    (row,) = report(deployment(pods=(pod(last_exit="exit code 3", restarts=1),)), {}).pods
    assert (row.pid, row.port, row.state, row.restarts) == ("12", "4000", "Ready", 1)


def test_the_command_to_try_carries_the_body_of_the_warm_up():
    entry = {"name": "classifier", "warmup": {"requests": [{"body": '{"features": []}'}]}}
    (command,) = report(deployment(), {"spec": {"models": [entry]}}).try_next
    assert command == (
        "curl -H 'content-type: application/json' -d '{\"features\": []}' "
        "http://127.0.0.1:8080/predictions/classifier"
    )


def test_a_namespace_is_named_where_it_is_not_the_default():
    assert report(deployment(namespace="team"), {}).name == "team/wine"


def test_an_event_is_told_once():
    first, second = (
        LocalEvent(NOON + timedelta(seconds=s), Event("Normal", "RolloutStarted", str(s)))
        for s in (0, 1)
    )
    events = NewEvents()
    assert events.of(deployment(events=(first,))) == (first,)
    assert events.of(deployment(events=(first, second))) == (second,)
    assert events.of(deployment(events=(first, second))) == ()
