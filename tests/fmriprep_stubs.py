"""Programs that stand in for container engines: they record how they are called, and leave what fMRIPrep would leave."""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

DIGEST = "sha256:" + "ab" * 32
SOURCE = "org.label-schema.usage.singularity.deffile.from"

# One program for all engines. `made` is copied to where the output folder is mounted; `answers.json` maps words of a call to what is said.
STUB = f"""#!{sys.executable} -ES
import json, os, shutil, sys
here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open(here + "/calls.jsonl", "a") as calls:
    calls.write(json.dumps(dict(argv=call, stdin=sys.stdin.read(), pythonpath=os.environ.get("PYTHONPATH"),
                                templates=os.environ.get("TEMPLATEFLOW_HOME"))) + "\\n")
for words, answer in json.load(open(here + "/answers.json")).items():
    if words in " ".join(call):
        print(answer["says"], file=sys.stdout if answer["code"] == 0 else sys.stderr)
        sys.exit(answer["code"])
out = [a for a in call if a.endswith(":/out")]
out = out[0].removesuffix(":/out") if out else call[2]
if os.path.isdir(here + "/made"):
    shutil.copytree(here + "/made", out, dirs_exist_ok=True)
sys.exit(int(open(here + "/exit").read()))
"""


class Engines:
    """Stand-ins for `apptainer`, `docker` and `fmriprep` in a folder for PATH.

    Attributes:
        root: its `bin` holds the programs, `made` what a run leaves.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bin").mkdir(parents=True)
        for name in ("apptainer", "docker", "fmriprep"):
            (root / "bin" / name).write_text(STUB)
            (root / "bin" / name).chmod(0o755)
        self.answers = {
            "MemTotal": ("32000000000", 0),
            "docker info": ("28.0", 0),
            f"inspect --format {{{{.Id}}}} nipreps/fmriprep@{DIGEST}": ("sha256:id", 0),
            "docker image inspect": ("No such image", 1),
            "--entrypoint=free": ("Mem: 4000", 0),
            "docker images": ("id", 0),
            "docker version": ("28.0", 0),
            "apptainer --version": ("apptainer version 1.4.0", 0),
            "apptainer inspect": (labels(f"nipreps/fmriprep@{DIGEST}"), 0),
            "fmriprep --version": ("fMRIPrep v25.2.7", 0),
        }
        self.ends_with(0)

    def say(self, words: str, answer: str, code: int = 0) -> None:
        """Answer calls that hold these words."""
        self.answers = {words: (answer, code)} | {k: v for k, v in self.answers.items() if k != words}
        self.ends_with(int((self.root / "exit").read_text()))

    def ends_with(self, code: int) -> None:
        """Exit code of a run."""
        (self.root / "exit").write_text(str(code))
        said = {words: {"says": says, "code": exit_code} for words, (says, exit_code) in self.answers.items()}
        (self.root / "answers.json").write_text(json.dumps(said))

    def calls(self) -> list[dict[str, Any]]:
        """What was called: `argv`, and what the program found on stdin and in its variables."""
        return [json.loads(line) for line in (self.root / "calls.jsonl").read_text().splitlines()]


def labels(source: str) -> str:
    """What `apptainer inspect --json` says of an image that was built from `source`."""
    return json.dumps({"data": {"attributes": {"labels": {SOURCE: source}}}, "type": "container"})


def as_on_the_host(argv: list[str]) -> list[str]:
    """fMRIPrep's arguments in a recorded call of an engine, with what is mounted in place of where it is mounted.

    Raises:
        AssertionError: a folder that fMRIPrep is given is not mounted.
    """
    mounts = {}
    for option, value in pairwise(argv):
        if option in ("-v", "--bind"):
            source, target, *_ = value.split(":")
            mounts[target] = source
    own = argv[argv.index("/data") :]
    translated = []
    for argument in own:
        if argument.startswith("/"):
            target = next((t for t in mounts if argument == t or argument.startswith(f"{t}/")), None)
            assert target is not None, f"{argument} is not mounted"
            argument = mounts[target] + argument.removeprefix(target)
        translated.append(argument)
    return translated
