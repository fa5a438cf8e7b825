"""Measurements beside other servers; see README.md here."""
