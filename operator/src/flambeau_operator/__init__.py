"""flambeau operator."""
