"""Conversion of published checkpoints to this project's files (`boldscribe convert`), written only if every tensor is accounted for."""
