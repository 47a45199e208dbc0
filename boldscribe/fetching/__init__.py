"""Download of data, weights, templates and containers, verified by digest (docs/fetching.md)."""
