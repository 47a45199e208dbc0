"""Slurm: a site's settings, requests, preemption, copies on a node's disk."""
