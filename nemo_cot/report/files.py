"""What a report's folder holds: every figure as data, as Markdown, and as a page with the texts."""

RESULTS, MARKDOWN, PAGE = "results.json", "report.md", "report.html"
