"""Decorators that third-party handlers import."""
