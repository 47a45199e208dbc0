"""The parts of the paper's figure 1."""
