"""Data, weights, templates and containers from outside, by digest (docs/fetching.md)."""
