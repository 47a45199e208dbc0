"""BIDS data sets: layout, events, preflight, series, trials, windows."""
