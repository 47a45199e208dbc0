"""Power: the probability that the decoder beats its controls, from whole simulated experiments (docs/power.md)."""
