"""The runtime in a pod understands how the operator starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flambeau_operator.plan.children import desired_children
from flambeau_operator.plan.config_properties import render
from flambeau_operator.plan.manifests import make_manifests
from flambeau_operator.plan.site import Live
from flambeau_operator.plan.volumes import CONFIG_FILE, CONFIG_FOLDER
from flambeau_runtime.__main__ import make_parser, read_settings
from flambeau_runtime.settings import Address, Managed
from tests.builders import UID, a_deployment
from tests.controlplane.golden import cases


def runtime_container(**spec):
    children = desired_children(a_deployment(**spec))
    made = make_manifests(cases.OWNER, children, cases.SITE, Live())
    deployment = next(each for each in made if each["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]["containers"][0]


def settings_of(container, folder: Path):
    """Read the settings as the process in the pod does, its configuration lying in `folder`."""
    arguments = [each.replace(CONFIG_FOLDER, str(folder)) for each in container["args"]]
    environ = {each["name"]: each["value"] for each in container["env"]}
    return read_settings(make_parser().parse_args(arguments), environ)


def test_a_runtime_in_a_pod_belongs_to_its_model_deployment_and_listens_where_it_is_asked(tmp_path):
    settings = settings_of(runtime_container(), tmp_path)
    assert settings.managed == Managed(Path("/etc/flambeau/models.json"), UID)
    assert settings.state_dir == Path("/var/lib/flambeau/state")
    addresses = (settings.inference, settings.management, settings.metrics)
    assert addresses == (Address("::", 8080), Address("::", 8081), Address("::", 8082))


def test_a_runtime_in_a_pod_has_as_many_devices_as_the_limit_says(tmp_path):
    container = runtime_container(resources={"limits": {"nvidia.com/gpu": 2}})
    assert settings_of(container, tmp_path).devices == (0, 1)


@pytest.mark.parametrize(
    ("disruption", "delay_s", "timeout_s"),
    [
        pytest.param({}, 10.0, 138.0, id="the defaults leave the longest request its time"),
        pytest.param(
            {"drainDelay": "30s", "terminationGracePeriod": "150s"}, 30.0, 118.0, id="others too"
        ),
    ],
)
def test_a_runtime_in_a_pod_is_done_before_its_grace_is(tmp_path, disruption, delay_s, timeout_s):
    limits = settings_of(runtime_container(disruption=disruption), tmp_path).limits
    assert (limits.drain_delay_s, limits.drain_timeout_s) == (delay_s, timeout_s)


def test_a_runtime_in_a_pod_reads_the_configuration_of_the_spec(tmp_path):
    config = {"job_queue_size": "7", "default_response_timeout": "60"}
    (tmp_path / CONFIG_FILE).write_text(render(config))
    container = runtime_container(runtime={"config": config})
    assert settings_of(container, tmp_path).limits.job_queue_size == 7
