"""Provenance: a record next to every output."""
