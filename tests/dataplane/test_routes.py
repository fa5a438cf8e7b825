"""Which model a request target asks, in every spelling."""

from __future__ import annotations

import pytest

from flambeau_runtime.api.routes import Route, find_route, model_in_form
from flambeau_runtime.protocol import WITH_QUERY, WITHOUT_PATH


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/predictions/m", Route("m", None, "", False)),
        ("/predictions/m/", Route("m", None, "", False)),
        ("/predictions/m?a=b", Route("m", None, "", False)),
        ("/predictions/m/1.0/a/b/", Route("m", "1.0", "a/b", False)),
        ("/predictions/m%2F1.0/a%20b", Route("m", "1.0", "a b", False)),
        ("/predictions//1.0", Route("", "1.0", "", False)),
        ("http://host/predictions/m", Route("m", None, "", False)),
        ("/explanations/m/1.0", Route("m", "1.0", "", True)),
        ("/v1/models/m:predict", Route("m", None, "", False, WITHOUT_PATH)),
        ("/v1/models/m:explain", Route("m", None, "", True, WITHOUT_PATH)),
        ("/v2/models/m/infer", Route("m", None, "", False, WITHOUT_PATH, True)),
        ("/v2/models/m/versions/1/explain", Route("m", "1", "", True, WITHOUT_PATH, True)),
        ("/invocations", Route(None, None, "", False, WITH_QUERY)),
        ("/invocations?model_name=m&a=1", Route("m", None, "model_name=m&a=1", False, WITH_QUERY)),
        ("/models/m/invoke?a=1", Route("m", None, "a=1", False, WITH_QUERY)),
        ("/m/predict?a=1#b", Route("m", None, "a=1", False, WITH_QUERY)),
        ("/m/1.0/predict", Route("m", "1.0", "", False, WITH_QUERY)),
    ],
)
def test_a_prediction_is_found(target, route):
    assert find_route(target.encode()) == route


OTHERS = """
    / * /ping /predictions /predictions/ /v1/models/m /v1/models/m:x /v2 /v2/models/m /models
    /v2/models/m/ready /models/m /models/m/predict /predict /a/b/c/predict /m/predict/1.0
    /metrics/predict /invocations/m
"""


@pytest.mark.parametrize("target", ["", *OTHERS.split()])
def test_everything_else_is_no_prediction(target):
    assert find_route(target.encode()) is None


PART = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n--b--\r\n'


@pytest.mark.parametrize(
    ("kind", "body", "model"),
    [
        ("application/x-www-form-urlencoded", "a=1&model_name=m%20n", "m n"),
        ("application/x-www-form-urlencoded", "a=1", None),
        ("multipart/form-data; boundary=b", PART.format("model_name", "", "m"), "m"),
        ("multipart/form-data; boundary=b", PART.format("model_name", "\r\nX: y", "m"), "m"),
        ("multipart/form-data; boundary=b", PART.format("x", "", "m"), None),
        ("application/json", '{"model_name": "m"}', None),
        ("", "model_name=m", None),
    ],
)
def test_a_form_may_name_the_model(kind, body, model):
    # A multipart body begins without the line break that its later parts have before them.
    assert model_in_form(kind, body.encode()) == model
