"""A run from scratch: on a real Slurm, in a clone, it makes the bytes that a run on this machine makes."""

import pytest

from boldscribe.machinery.provenance.tree import read_tree
from tests.conftest import SNAKEMAKE
from tests.slurm.conftest import EXPERIMENT, OnSlurm, accounted, finish

TABLE = "results/tiny/tables/had.csv"
# The others' jobs differ in nothing that Slurm sees.
SOME = ["--config", "decoding={controls: [noise, constant]}"]


def test_a_second_run_from_scratch_on_slurm_makes_the_same_bytes(on_slurm: OnSlurm, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = OnSlurm(tmp_path_factory.mktemp("again"))
    again.run("git", "clone", "-q", str(on_slurm.root), ".")
    again.site()
    run = again.start(TABLE, *SOME)
    on_slurm.run(*SNAKEMAKE, TABLE, "--configfile", *EXPERIMENT, *SOME)
    finish(run)
    here, there = (
        {name: o.record["subject"]["sha256"] for name, o in read_tree(c.results).outputs.items() if o.record} for c in (on_slurm, again)
    )
    assert len(there) > 40 and there == {name: here[name] for name in there}
    assert (again.root / TABLE).read_bytes() == (on_slurm.root / TABLE).read_bytes()
    made = [o.record["activity"] for o in read_tree(again.results).outputs.values() if o.record]
    jobs = [activity["slurm"]["job"] for activity in made if activity["rule"] == "decode"]
    assert len(jobs) == 3 and len(set(jobs)) == 1, "all conditions of a data set share a job"
    assert accounted(jobs[0], "Timelimit", "ReqMem", "AllocCPUS") == ["01:30:00", "2000M", "1"], "the time of all, the memory of one"
