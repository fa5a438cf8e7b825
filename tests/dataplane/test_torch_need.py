"""Whether it is worth for a worker to wait until the template has imported torch."""

import pytest

from flambeau_runtime.serving.torch_need import wants_torch


@pytest.mark.parametrize(
    ("files", "handler", "wanted"),
    [
        pytest.param({"h.py": "import torch"}, "h.py:handle", True, id="the handler imports torch"),
        pytest.param({"h.py": "import sklearn"}, "h.py", False, id="another library's model"),
        pytest.param(
            {"h.py": "import net", "nets/net.py": "from torch import nn"},
            "h.py",
            True,
            id="a file beside the handler imports it",
        ),
        pytest.param(
            {"h.py": "from ts.torch_handler.base_handler import BaseHandler"},
            "h.py",
            True,
            id="a handler built on one of ours",
        ),
        pytest.param({}, "image_classifier", True, id="one of ours by its name"),
    ],
)
def test_wants_torch(tmp_path, files, handler, wanted):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert wants_torch(tmp_path, handler) is wanted
