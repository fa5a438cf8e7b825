"""The types and reasons of conditions."""

from enum import StrEnum


class ConditionType(StrEnum):
    """What can be said of a ModelDeployment."""

    READY = "Ready"
    ROLLED_OUT = "RolledOut"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    MODELS_READY = "ModelsReady"
    PODS_AVAILABLE = "PodsAvailable"
    AUTOSCALING_ACTIVE = "AutoscalingActive"
    UNSUPPORTED = "Unsupported"
    RECONCILE_DISABLED = "ReconcileDisabled"
    SUSPENDED = "Suspended"


class Reason(StrEnum):
    """Why it is so.

    A failed model adds the runtime's own reasons (ArchiveInvalid …), a pod that does not start and
    an object that is refused those of their cluster (Unschedulable, ImagePullBackOff, Forbidden …).
    """

    ALL_MODELS_SERVING = "AllModelsServing"
    MODELS_NOT_READY = "ModelsNotReady"
    MODEL_FAILED = "ModelFailed"
    NO_PODS = "NoPods"
    PODS_AVAILABLE = "PodsAvailable"
    PODS_NOT_READY = "PodsNotReady"
    PODS_STARTING = "PodsStarting"
    ROLLED_OUT = "RolledOut"
    ROLLOUT_IN_PROGRESS = "RolloutInProgress"
    ROLLOUT_PAUSED = "RolloutPaused"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    ANALYSIS_FAILED = "AnalysisFailed"
    ANALYSIS_INCONCLUSIVE = "AnalysisInconclusive"
    FAILED_AFTER_PROMOTION = "FailedAfterPromotion"
    BROUGHT_POD_DOWN = "BroughtPodDown"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INSUFFICIENT_ACCELERATOR_MEMORY = "InsufficientAcceleratorMemory"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    MANAGEMENT_UNREACHABLE = "ManagementUnreachable"
    POD_SILENT = "PodSilent"
    POD_RESTARTING = "PodRestarting"
    APPLYING = "Applying"
    INVALID_SPEC = "InvalidSpec"
    VERSION_REUSED = "VersionReused"
    TOO_LARGE = "TooLarge"
    POD_TEMPLATE_INVALID = "PodTemplateInvalid"
    NAME_CONFLICT = "NameConflict"
    NO_EFFECT = "FieldsWithoutEffect"
    AUTOSCALER_SILENT = "AutoscalerSilent"
    RECONCILE_DISABLED = "ReconcileDisabled"
    SUSPENDED = "Suspended"
