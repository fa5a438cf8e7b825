"""What the operator costs on a real Kubernetes: how soon it acts, and what it takes meanwhile."""
