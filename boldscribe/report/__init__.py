"""The report and the provenance page."""
