"""A real Kubernetes to develop and test with: a named one, kind, or one built from Go modules."""
