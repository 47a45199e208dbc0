"""Summary of the BIDS validator's findings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "bids-validator-deno"
SECONDS = 600


@dataclass(frozen=True)
class Validation:
    """Errors by code, with their number and first place; number of warnings; reason if the validator gave no result."""

    errors: dict[str, tuple[int, str]]
    warnings: int
    left_out: str = ""


def validate(root: Path, headers: bool = True) -> Validation:
    """Run the validator on a raw data set, without the network.

    Two of its errors are not faults here: videos may lie outside `stimuli/` (`init` checks for them separately), and their names may
    contain spaces, as in HAD.

    Args:
        root: root of the data set.
        headers: whether to open images; some may not exist yet.
    """
    beside = Path(sys.executable).parent / PROGRAM
    program = str(beside) if beside.exists() else shutil.which(PROGRAM)
    if program is None:
        return Validation({}, 0, f"{PROGRAM} is not installed; run `make setup`")
    try:
        command = [program, str(root), "--format", "json", *([] if headers else ["--ignoreNiftiHeaders"])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        issues = json.loads(done.stdout)["issues"]["issues"]
    except subprocess.TimeoutExpired:
        return Validation({}, 0, f"{PROGRAM} was stopped after {SECONDS} s")
    except (OSError, ValueError, KeyError) as error:
        return Validation({}, 0, f"{PROGRAM} gave no result ({error})")
    faults = [i for i in issues if i["severity"] == "error" and not _expected(i)]
    number = Counter(i["code"] for i in faults)
    first = {i["code"]: f"{i.get('location', '')} {i.get('issueMessage', '')}".strip().splitlines()[0] for i in reversed(faults)}
    return Validation({code: (n, first[code]) for code, n in number.most_common()}, sum(i["severity"] == "warning" for i in issues))


def _expected(issue: dict[str, str]) -> bool:
    return issue["code"] == "STIMULUS_FILE_MISSING" or (issue["code"] == "TSV_VALUE_INCORRECT_TYPE" and issue.get("subCode") == "stim_file")
