"""Rendered action clips and simulated BOLD: data whose right answer is known."""
