"""report.md and report.html: figures of a run with their intervals and provenance; comparisons of runs."""
