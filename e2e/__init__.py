"""Tests of the whole on a real Kubernetes, and the clusters that they run on."""
