"""What a Slurm cluster needs beside the experiment: the site's own settings, one controller at a time, retries, and the queue."""
