"""Power: with what probability the decoder beats its controls, by whole simulated experiments (docs/power.md)."""
