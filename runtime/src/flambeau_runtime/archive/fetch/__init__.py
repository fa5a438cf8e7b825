"""Fetching that needs credentials: in a process of its own, which ends with them."""
