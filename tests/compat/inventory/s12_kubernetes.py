"""Section 12: Kubernetes and images. Nothing here is told by a running server alone."""

from tests.compat.inventory.row import MUST, RARE, SHOULD, Row, S, Section

SECTION = Section(
    "12",
    "Kubernetes and images",
    (
        Row("12-chart", "a Helm chart: Deployment, Service, PVC", SHOULD, S),
        Row("12-pvc-layout", "PVC: model-store/ and config/config.properties", SHOULD, S),
        Row("12-hpa", "an HPA example on an ever-growing metric", MUST, S),
        Row("12-istio", "an Istio canary example", RARE, S),
        Row("12-session-affinity", "a session affinity example", RARE, S),
        Row("12-kserve-image", "KServe's image and its /mnt/models layout", SHOULD, S),
        Row("12-image", "image: user model-server, its home, the word serve", MUST, S),
        Row("12-grafana", "no Grafana dashboard ships", SHOULD, S),
        Row("12-sagemaker", "CloudFormation and SageMaker templates", RARE, S),
        Row("12-benchmarks", "benchmark scripts", RARE, S),
    ),
)
