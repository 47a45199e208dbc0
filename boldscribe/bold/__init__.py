"""From preprocessed BOLD to cleaned series and trial windows."""
