"""The report: one page to look at."""
