"""One thin program per rule: read the command line, call one library function, record what was made."""

import sys

from boldscribe.provenance.deployment import explain_absence

sys.excepthook = explain_absence  # a package that is not installed shows as a message that says what to do
