"""Envelopes: what an orchestrator wraps around requests and answers, taken off and put back."""
