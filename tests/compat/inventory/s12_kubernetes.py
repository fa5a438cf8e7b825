"""Section 12: Kubernetes and images. Nothing here is told by a running server alone."""

from tests.compat.inventory.row import (
    DIFFERENT,
    MISSING,
    MUST,
    RARE,
    SAME,
    SHOULD,
    Row,
    S,
    Section,
)

SECTION = Section(
    "12",
    "Kubernetes and images",
    (
        Row(
            "12-chart",
            "a Helm chart: Deployment, Service, PVC",
            SHOULD,
            S,
            DIFFERENT,
            "charts/flambeau installs the operator; a ModelDeployment is the Deployment and the"
            " Service, with probes, budgets and a service account",
        ),
        Row(
            "12-pvc-layout",
            "a PVC with model-store/ and config/config.properties",
            SHOULD,
            S,
            DIFFERENT,
            "a model names its archive: `pvc://CLAIM/PATH` reads one from such a volume",
        ),
        Row(
            "12-hpa",
            "an HPA example on an ever-growing metric, through an adapter",
            MUST,
            S,
            DIFFERENT,
            "`autoscaling.hpa` of a ModelDeployment, in autoscaling/v2",
        ),
        Row(
            "12-istio",
            "an Istio canary example",
            RARE,
            S,
            DIFFERENT,
            "the operator rolls a version out pod by pod, and back when it does not load",
        ),
        Row("12-session-affinity", "a session affinity example for sequences", RARE, S, MISSING),
        Row("12-kserve-image", "KServe's image and its /mnt/models layout", SHOULD, S, MISSING),
        Row(
            "12-image",
            "image: user model-server, its home, the word serve",
            MUST,
            S,
            SAME,
            "a Dockerfile that builds on theirs builds on ours: e2e/test_image_of_a_guide.py",
        ),
        Row("12-grafana", "no Grafana dashboard ships", SHOULD, S, SAME),
        Row("12-sagemaker", "CloudFormation and SageMaker templates", RARE, S, MISSING),
        Row(
            "12-benchmarks",
            "benchmark scripts",
            RARE,
            S,
            DIFFERENT,
            "bench/ measures this runtime beside others, in the same rounds",
        ),
    ),
)
