"""One thin program per rule: read the command line, call one library function, record what was made."""
