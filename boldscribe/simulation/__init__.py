"""Rendered action clips and simulated BOLD: data with a known ground truth."""
