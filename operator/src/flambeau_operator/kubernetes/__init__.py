"""The door `Cluster` on Kubernetes: everything that speaks to an API server."""
