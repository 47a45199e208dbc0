"""All that would be as true of satellite images: steps, provenance, runs, the cluster, downloads. It never imports the method."""
