"""Runs: jobs, their states, causes of failures, time left."""
