"""A real Slurm, and a checkout whose jobs run on it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT, SNAKEMAKE, TINY, Checkout, new_checkout
from tests.slurm import cluster

EXPERIMENT = [*TINY[1:], "tests/slurm/faults.yaml"]
STAGE1 = "results/tiny/stage1/had/model"


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of a Slurm that runs on this machine: one that is there already, or one that is started for these tests."""
    if reason := cluster.missing():
        pytest.fail(f"no Slurm can be started here: {reason}")
    if folder := cluster.running():
        yield folder
        return
    folder = tmp_path_factory.mktemp("slurm")
    cluster.up(folder)
    yield folder
    cluster.down(folder)


@dataclass
class OnSlurm(Checkout):
    """A checkout with settings for the test cluster.

    Attributes:
        weights: of Stage I, as made on this machine without Slurm and without disturbance.
    """

    weights: dict[str, bytes] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """With this checkout's own site.yaml."""
        return {**super().environment(), "BOLDSCRIBE_SITE": ""}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `snakemake --profile slurm`; targets come first."""
        command = [sys.executable, "-m", "tests.slurm.often", *arguments, "--profile", "slurm"]
        return subprocess.Popen(command, cwd=self.root, env=self.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def site(self, **settings: int | str) -> None:
        """Write site.yaml as a user would."""
        options = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        chosen = ["--account", "neuro", "--partition", "cpu", "--partition", "gpu", "--gpu-model", "fake", "--embedded-gpus", "1"]
        experiment = [word for file in EXPERIMENT for word in ("--experiment", file)]
        self.run("boldscribe", "init", "--cluster", "--force", *chosen, *experiment, *options)

    def forget_stage1(self) -> None:
        """Remove what Stage I made, and its checkpoints."""
        self.run("rm", "-rf", STAGE1, f"{STAGE1}.prov.json", "results/tiny/work/stage1")

    def stage1_weights(self) -> dict[str, bytes]:
        """All weights that Stage I made."""
        folder = self.root / STAGE1
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}

    def in_mid_stage1(self, run: subprocess.Popen[str]) -> str:
        """Wait until Stage I has saved a checkpoint; gives the number of its job."""
        wait_for(lambda: any(self.results.glob("work/stage1/had/model/*/[0-9]*.safetensors")), run)
        return self.jobs("stage1")[0]

    def jobs(self, rule: str) -> list[str]:
        """Numbers of the rule's jobs that are in Slurm's queue."""
        listed = subprocess.run(["squeue", "-h", "-o", "%A %k %Z"], capture_output=True, text=True, check=True).stdout
        return [line.split()[0] for line in listed.splitlines() if f" rule_{rule}" in line and str(self.root) in line]


def finish(run: subprocess.Popen[str], seconds: float = PATIENCE) -> str:
    """What a started run prints until its end; it must succeed."""
    output, _ = run.communicate(timeout=seconds)
    assert run.returncode == 0, output[-6000:]
    return output


def wait_for(ready: Callable[[], bool], run: subprocess.Popen[str] | None = None, seconds: float = PATIENCE) -> None:
    """Wait until something is so, while a run goes on."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"waited {seconds:g} s"
        assert run is None or run.poll() is None, run.communicate()[0][-6000:]
        time.sleep(0.3)


def accounted(job: str, *columns: str) -> list[str]:
    """What Slurm's accounting says of a job."""
    command = ["sacct", "-n", "-X", "-P", "-j", job, f"--format={','.join(columns)}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1].split("|")


@pytest.fixture(scope="session")
def on_slurm(slurm: Path, tmp_path_factory: pytest.TempPathFactory) -> OnSlurm:
    """A checkout that has run up to Stage I without Slurm."""
    made = OnSlurm(new_checkout(tmp_path_factory.mktemp("on-slurm")).root)
    made.run(*SNAKEMAKE, STAGE1, "--configfile", *EXPERIMENT)
    made.weights = made.stage1_weights()
    assert len(made.weights) >= 2
    made.site()
    assert made.root != ROOT
    return made
