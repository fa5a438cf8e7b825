"""The backends of torch.compile that TorchServe knows; torch itself is not asked."""

from __future__ import annotations

import logging
from enum import StrEnum

log = logging.getLogger(__name__)


class PT2Backend(StrEnum):
    """The backends that TorchServe lets through to torch.compile."""

    EAGER = "eager"
    AOT_EAGER = "aot_eager"
    INDUCTOR = "inductor"
    NVFUSER = "nvfuser"
    AOT_NVFUSER = "aot_nvfuser"
    AOT_CUDAGRAPHS = "aot_cudagraphs"
    OFI = "ofi"
    FX2TRT = "fx2trt"
    ONNXRT = "onnxrt"
    IPEX = "ipex"
    TORCHXLA_TRACE_ONCE = "torchxla_trace_once"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"
    HPU_BACKEND = "hpu_backend"


def is_known_backend(backend: object) -> bool:
    """Tell whether a backend is on the list; if not, the log says so."""
    if any(backend == known.value for known in PT2Backend):
        return True
    log.warning("%s is not a supported backend", backend)
    return False
