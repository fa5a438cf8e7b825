"""The API server goes, or falls silent: predictions never notice, and nothing asked for is lost."""

import time

import pytest

from e2e.cluster.silence import cut_off
from e2e.flambeau import echo, identity
from e2e.waiting import until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def served(tenant, archives):
    """Version 1.0 in two pods."""
    tenant.apply(archives("1.0", "2.0", "slow-2.0"), echo())
    tenant.wait("RolledOut")
    return tenant


def test_watches_that_fall_silent_are_noticed(served, load):
    """The operator's connections carry nothing any more, and nobody tells it."""
    cluster, before = served.cluster, identity(served.pods())
    (operator,) = served.flambeau.operators()
    with load(served.url()) as asking, cut_off(cluster, operator["status"]["podIP"]):
        served.apply(echo("2.0"))
        served.generation_seen(within_s=120)
        served.wait("RolledOut", within_s=120)
        asking.more(100)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {"1.0", "2.0"}
    assert identity(served.pods()) == before
    assert identity(served.flambeau.operators()) == identity([operator])


def test_two_minutes_without_an_api_server(served, load):
    cluster, before = served.cluster, identity(served.pods())
    operators = identity(served.flambeau.operators())
    with load(served.url()) as asking:
        with cluster.without("kube-apiserver"):
            # Not a wait for something to come true: the length of the outage is the claim.
            time.sleep(120)
        until("the API server answers", served.get)
        served.apply(echo("2.0"))
        served.generation_seen(within_s=90)
        served.wait("RolledOut", within_s=120)
        asking.more(100)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {"1.0", "2.0"}
    assert identity(served.pods()) == before
    assert {uid for _, uid, _ in identity(served.flambeau.operators())} == {
        uid for _, uid, _ in operators
    }
    # Kubernetes' own controllers take up to two minutes more to come back: leave none behind.
    served.apply(echo("2.0", replicas=3))
    served.generation_seen()
    served.wait("RolledOut", within_s=240)
