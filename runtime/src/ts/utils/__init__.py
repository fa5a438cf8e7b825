"""Small functions that third-party handlers import."""
