"""Every setting of the runtime, built once in `__main__` or a command, and passed by argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Authorisation(StrEnum):
    """How callers prove who they are (RUNTIME.md, deliberate differences)."""

    AUTO = "auto"  # health and inference open; management for loopback callers or with the key
    STRICT = "strict"  # TorchServe's own: the inference and the management key, each for its port
    OFF = "off"


class ModelApi(StrEnum):
    """Whether POST and DELETE /models are allowed."""

    AUTO = "auto"  # to whoever may use management
    ON = "on"
    OFF = "off"  # 405


class MetricsMode(StrEnum):
    """Where measurements go."""

    PROMETHEUS = "prometheus"  # the page
    LOG = "log"  # lines in ts_metrics.log and model_metrics.log; the page is empty
    LEGACY = "legacy"  # the ts_* counters on the page, all else in the log


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as a metrics file declares it."""

    name: str
    kind: str  # counter | gauge | histogram
    unit: str
    dimensions: tuple[str, ...]  # names of its labels, in order


@dataclass(frozen=True, slots=True)
class MetricsFile:
    """What a metrics file declares; it takes the place of what is built in."""

    front: tuple[Family, ...]
    model: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener binds; port 0 takes a free one, a path is a unix socket."""

    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = False
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Tls:
    """What https:// addresses show: a PEM key and certificate, or a PKCS12 keystore with both.

    The keystore goes first where both are named, as in TorchServe.
    """

    private_key: Path | None = None
    certificate: Path | None = None
    keystore: Path | None = None
    keystore_password: str = field(default="changeit", repr=False)
    keystore_type: str = "PKCS12"


@dataclass(frozen=True, slots=True)
class ConnectionAge:
    """How old a gRPC connection gets, and how long its calls may then go on; None: for ever."""

    max_s: float | None = None
    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, lengths in jobs."""

    max_request_bytes: int = 6_553_500
    max_response_bytes: int = 6_553_500
    job_queue_size: int = 100
    response_timeout_s: float = 120.0
    startup_timeout_s: float = 120.0
    batch_size: int = 1
    max_batch_delay_s: float = 0.1
    unregister_timeout_s: float = 120.0
    max_connection_age_s: float = 300.0  # then a kept-alive connection is asked to leave
    drain_timeout_s: float = 60.0
    drain_delay_s: float = (
        0.0  # keep accepting this long after SIGTERM, while endpoints are removed
    )
    swap_delay_s: float = 5.0  # the same where a swap takes this runtime out of its Services


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What config.properties says beforehand about one version of one model; None: nothing."""

    model: str
    version: str
    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay_s: float | None = None
    response_timeout_s: float | None = None
    startup_timeout_s: float | None = None
    is_default: bool = False
    archive: str | None = None  # what a snapshot restores it from


@dataclass(frozen=True, slots=True)
class Managed:
    """Present when a ModelDeployment owns this runtime."""

    boot_file: Path  # {"document": {...}, "publicKeys": ["base64url of a raw Ed25519 key", …]}
    uid: str  # the owner's uid: audience of every signed call


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration of one runtime process."""

    inference: Address = field(default_factory=lambda: Address(port=8080))
    management: Address = field(default_factory=lambda: Address(port=8081))
    metrics: Address = field(default_factory=lambda: Address(port=8082))
    tls: Tls = Tls()
    cors: tuple[tuple[str, str], ...] = ()  # headers on every answer
    grpc_inference: Address | None = None  # None: no gRPC
    grpc_management: Address | None = None
    grpc_inference_age: ConnectionAge = ConnectionAge()
    grpc_management_age: ConnectionAge = ConnectionAge()
    grpc_tls: bool = False  # with the files of `tls`
    state_dir: Path = Path()  # extracted archives, the last accepted document, listening.json
    temp_dir: Path | None = None  # where a state_dir of its own is made; None: the system's
    cache_dir: Path | None = None  # extracted archives shared with other runtimes; None: state_dir
    model_store: Path | None = None
    load_models: tuple[tuple[str | None, str], ...] = ()  # (name or None, archive) at start-up
    model_defaults: tuple[ModelDefaults, ...] = ()
    snapshot: tuple[ModelDefaults, ...] | None = None  # served instead of load_models
    install_requirements: bool = False  # of archives, and so run what their packages run then
    default_handler: str | None = None  # for archives that name none
    workers_per_model: int | None = None  # None: one per device, or per CPU where there is none
    limits: Limits = field(default_factory=Limits)
    devices: tuple[int, ...] = ()  # indices of accelerators; empty: CPU
    device_visibility: str = "own"  # own | all
    authorisation: Authorisation = Authorisation.AUTO
    model_api: ModelApi = ModelApi.AUTO
    key_file: Path | None = None
    token_expiration_min: int = 60
    allowed_urls: tuple[str, ...] = ("file://.*", "https?://.*", "(s3|gs|az|hf|oci)://.*")
    decode_input_request: bool = True
    limit_max_image_pixels: bool = True
    ipex: bool = False  # told to workers: TS_IPEX_ENABLE
    ipex_gpu: bool = False  # TS_IPEX_GPU_ENABLE
    envelope: str | None = None  # around every handler whose model-config.yaml names no other
    hidden_env: str | None = None  # regular expression: variables that workers do not see
    first_worker_id: int = 9000
    metrics_page: bool = True
    metrics_mode: MetricsMode = MetricsMode.PROMETHEUS
    metrics_file: MetricsFile | None = None
    metrics_auto_detect: bool | None = None  # show what no file names; None: unless there is one
    metrics_interval_s: int = 60  # between two looks at the machine, where these are logged
    metrics_dir: Path | None = None  # its log files; None: log_dir
    system_metrics: bool = True
    system_metrics_cmd: str | None = None  # a Python script that measures the machine instead
    preload_torch: bool = True  # keep a template process that forks workers
    sequence_id_header: str = "ts_request_sequence_id"
    sequence_start_header: str = "ts_request_sequence_start"
    sequence_end_header: str = "ts_request_sequence_end"
    managed: Managed | None = None
    memory_limit_bytes: int | None = None  # declared, where no control group sets one
    log_dir: Path | None = None  # torchserve's files; None: JSON lines on stdout
    introduction: str = ""  # what the configuration says in the whole, to be logged once
    warnings: tuple[str, ...] = ()  # what was odd in the configuration, to be logged once
