"""Steps: the programs that Snakemake's jobs run, with the settings and files that they may read."""
