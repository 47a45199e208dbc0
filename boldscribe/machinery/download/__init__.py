"""Downloads: resumed, verified, in parallel."""
