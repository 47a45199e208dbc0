"""Preprocessing from raw BIDS to BIDS-Derivatives: fMRIPrep, ready derivatives, or the embedded nipype workflow."""
