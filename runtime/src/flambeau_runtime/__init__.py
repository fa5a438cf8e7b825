"""flambeau runtime."""
