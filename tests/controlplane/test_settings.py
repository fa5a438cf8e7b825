"""What the operator's environment may say."""

import logging

import pytest

from flambeau_operator.errors import InvalidSettings
from flambeau_operator.settings import read_settings

ENOUGH = {
    "FLAMBEAU_NAMESPACE": "flambeau-system",
    "FLAMBEAU_RUNTIME_IMAGE": "example.org/runtime:1",
    "FLAMBEAU_POD_NAME": "flambeau-7d9f",
}


def test_little_is_enough():
    settings = read_settings(ENOUGH)
    assert settings.watch_namespaces is None
    assert settings.http_port == 8080
    assert settings.log_level == logging.INFO
    assert settings.kubeconfig is None


def test_lists_are_separated_by_commas():
    lists = {"FLAMBEAU_WATCH_NAMESPACES": "a, b,a,", "FLAMBEAU_IMAGE_PULL_SECRETS": "x,y"}
    settings = read_settings(ENOUGH | lists)
    assert settings.watch_namespaces == ("a", "b")
    assert settings.image_pull_secrets == ("x", "y")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("NAMESPACE", "", "is not set"),
        ("NAMESPACE", "Team A", "no namespace"),
        ("WATCH_NAMESPACES", "a,b/c", "'b/c', which is no namespace"),
        ("RUNTIME_IMAGE", " ", "is not set"),
        ("RUNTIME_PULL_POLICY", "Sometimes", "one of Always, IfNotPresent, Never"),
        ("HTTP_PORT", "99999", "0 to 65535"),
        ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR"),
        ("POD_NAME", "", "is not set"),
    ],
)
def test_what_cannot_be_is_named_with_its_remedy(name, value, words):
    with pytest.raises(InvalidSettings, match=rf"FLAMBEAU_{name}.*{words}"):
        read_settings(ENOUGH | {f"FLAMBEAU_{name}": value})


def test_everything_that_is_wrong_is_told_at_once():
    with pytest.raises(InvalidSettings) as invalid:
        read_settings({})
    assert len(invalid.value.problems) == 3
