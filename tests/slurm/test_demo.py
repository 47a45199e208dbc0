"""The demo on Slurm, by the sentence that users type, against the demo on this machine: the same bytes, and GPUs handed out one by one."""

import itertools
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from boldscribe.machinery.provenance.tree import read_tree
from tests.conftest import PATIENCE, Checkout, new_checkout
from tests.slurm.conftest import OnSlurm

pytestmark = pytest.mark.slow
GPU_RULES = {
    *("video_features", "captions", "pretrain_sc_mbm", "stage1", "fmri_tokens", "stage2", "decode", "scores"),
    *("retrieval", "information_map"),
}
DEMO = "results/demo"
# The others' jobs differ in nothing that Slurm sees.
SOME = ["--config", "decoding={controls: [noise, constant]}"]


def timed(checkout: Checkout, *command: str) -> float:
    """Run a command in a checkout; gives its duration (s)."""
    start = time.monotonic()
    done = subprocess.run(command, cwd=checkout.root, env=checkout.environment(), text=True, capture_output=True, timeout=3 * PATIENCE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return time.monotonic() - start


@pytest.fixture(scope="module")
def both(slurm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Checkout]:
    """The finished demo: on this machine, and on Slurm."""
    here, there = (OnSlurm(new_checkout(tmp_path_factory.mktemp(name)).root) for name in ("here", "there"))
    seconds_here = timed(here, "snakemake", "--profile", "profiles/demo", *SOME)
    there.run(
        "boldscribe", "init", "--cluster", "--account", "neuro", "--partition", "cpu", "--partition", "gpu", "--gpu-model", "fake",
        "--embedded-gpus", "1", "--experiment", "profiles/demo/experiment.yaml",
    )  # fmt: skip
    seconds_there = timed(there, "snakemake", "--profile", "slurm", *SOME)
    print(f"\nThe demo: {seconds_here:.0f} s on this machine, {seconds_there:.0f} s on Slurm on this machine")
    return here, there


def test_the_demo_on_slurm_makes_the_same_bytes(both: tuple[Checkout, Checkout]) -> None:
    here, there = (read_tree(checkout.root / DEMO).outputs for checkout in both)
    assert here.keys() == there.keys() and len(here) > 100
    differing = [
        name
        for name in here
        if here[name].record["subject"]["sha256"] != there[name].record["subject"]["sha256"]  # type: ignore[index]
    ]
    assert [name for name in differing if name not in ("report.html", "provenance.html")] == []
    for name in ("had", "urgen"):
        for suffix in ("csv", "md", "tex"):
            file = Path(DEMO) / "tables" / f"{name}.{suffix}"
            assert (both[0].root / file).read_bytes() == (both[1].root / file).read_bytes()


def test_gpu_steps_had_a_gpu_each_and_never_the_same_at_the_same_time(both: tuple[Checkout, Checkout]) -> None:
    held: dict[str, set[tuple[datetime, datetime]]] = {}
    for output in read_tree(both[1].root / DEMO).outputs.values():
        assert output.record is not None
        activity = output.record["activity"]
        slurm = activity["slurm"]
        if slurm is None:  # a local rule
            continue
        assert ("gpus" in slurm) == (activity["rule"] in GPU_RULES), activity
        if "gpus" in slurm:
            span = datetime.fromisoformat(activity["started"]), datetime.fromisoformat(activity["ended"])
            held.setdefault(slurm["gpus"], set()).add(span)
    assert held.keys() == {"0", "1"}
    for spans in held.values():
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(sorted(spans)))


def test_accounting_has_every_job_with_what_it_asked_for(both: tuple[Checkout, Checkout]) -> None:
    records = [output.record for output in read_tree(both[1].root / DEMO).outputs.values() if output.record]
    jobs = {record["activity"]["slurm"]["job"]: record["activity"] for record in records if record["activity"]["slurm"]}
    columns = "JobID,Partition,State,Elapsed,ReqMem,AllocTRES%60,Comment%60"
    listed = subprocess.run(["sacct", "-n", "-X", "-P", "-j", ",".join(jobs), f"--format={columns}"], capture_output=True, text=True).stdout
    rows = [line.split("|") for line in listed.splitlines()]
    assert len(rows) == len(jobs) > 80
    for number, _, state, *_, tres, comment in rows:
        assert state == "COMPLETED" and comment.startswith(f"rule_{jobs[number]['rule']}")
        assert ("gres/gpu=1" in tres) == (jobs[number]["rule"] in GPU_RULES), comment
    print("\n" + "\n".join("  ".join(row) for row in rows[:: max(1, len(rows) // 12)]))
