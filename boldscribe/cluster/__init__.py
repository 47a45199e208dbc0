"""Slurm support besides the experiment: the site's settings, a single controller per folder, retries, and the queue."""
