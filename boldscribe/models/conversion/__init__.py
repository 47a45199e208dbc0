"""Published checkpoints to the files that this project reads (`boldscribe convert`): each tensor is accounted for, or nothing written."""
