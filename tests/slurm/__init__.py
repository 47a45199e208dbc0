"""A real Slurm on this one machine, for tests."""
