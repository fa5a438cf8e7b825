"""Section 1.2: status codes and error bodies of inference."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def error(code: int, type_: str, message: str) -> bytes:
    """Return the error body of TorchServe, to the byte."""
    return f'{{\n  "code": {code},\n  "type": "{type_}",\n  "message": "{message}"\n}}\n'.encode()


@pytest.mark.row("1.2-unknown-model", "1.2-body")
def test_an_unknown_model_is_not_found(ts):
    answer = ts.predict("nobody")
    assert answer.status == 404
    assert answer.body == error(404, "ModelNotFoundException", "Model not found: nobody")
