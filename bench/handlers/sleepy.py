"""A handler that costs 5 + 2.3·n ms for n rows: steadier than a net, and the cores stay free."""

import time

SETUP_S = 0.005
PER_ROW_S = 0.0023


def handle(data, context):
    """Answer one small object per row."""
    if data is None:
        return None
    time.sleep(SETUP_S + PER_ROW_S * len(data))
    return [{"rows": len(data)} for _ in data]
