"""A training on two nodes of a real Slurm."""

import re
import subprocess

from tests.conftest import SNAKEMAKE
from tests.slurm.conftest import EXPERIMENT, STAGE1, OnSlurm, accounted, finish

SHORT = "stage1={epochs: 4, patience: 4}"


def test_stage1_on_two_nodes_ends_in_the_weights_of_two_processes_on_one(on_slurm: OnSlurm) -> None:
    """The nodes' GPUs are device files: what is computed is computed by the CPU."""
    on_slurm.forget_stage1()
    on_slurm.run(*SNAKEMAKE, STAGE1, "--configfile", *EXPERIMENT, "--config", "training={processes: 2}", SHORT)
    on_one = on_slurm.stage1_weights()
    on_slurm.forget_stage1()
    on_two = ["--set-resources", "stage1:slurm_partition=pair", "--config", "training={processes: 2, nodes: 2}", SHORT]
    output = finish(on_slurm.start(STAGE1, *on_two))
    (job,) = re.findall(r"submitted with SLURM jobid (\d+)", output)  # and no pretraining: the number of nodes makes no difference
    state, nodes, gave = accounted(job, "State", "NNodes", "AllocTRES")
    assert (state, nodes) == ("COMPLETED", "2") and "gres/gpu=2" in gave
    steps = subprocess.run(["sacct", "-n", "-P", "-j", job, "--format=JobID,NNodes,NTasks"], capture_output=True, text=True).stdout
    assert any(step.split("|")[1:] == ["2", "2"] for step in steps.splitlines()), f"one launcher on each node: {steps}"
    assert on_slurm.stage1_weights() == on_one
