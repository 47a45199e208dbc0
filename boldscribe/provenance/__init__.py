"""Who made this file: a record beside every output."""
