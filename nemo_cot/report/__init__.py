"""report.md and report.html: what a run found, how sure that is, and where it comes from."""

from nemo_cot.report.build import write_report

__all__ = ["write_report"]
