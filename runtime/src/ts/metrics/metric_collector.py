"""`python -m ts.metrics.metric_collector`: print numbers about the machine, a line each."""

from ts.metrics import system_metrics

if __name__ == "__main__":
    system_metrics.collect_all()
