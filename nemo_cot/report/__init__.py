"""report.md and report.html: what a run found, how sure that is, and where it comes from; comparisons of runs."""
