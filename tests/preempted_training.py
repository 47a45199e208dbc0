"""A training that stops in the middle of a step until it is told to go on, so that a signal can be sent there.

`python -m tests.preempted_training STAGE ARGUMENTS STEP FOLDER`: at optimiser step STEP, process R writes FOLDER/reached.R, and goes on
when FOLDER/go is there. FOLDER/saved lists the steps after which checkpoints were written; FOLDER is the results tree, too.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.machinery.cluster import preemption
from boldscribe.machinery.provenance.record import Job, record
from boldscribe.training import optimisation
from boldscribe.training.distributed import rank
from boldscribe.training.optimisation import Optimisation
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.stage1 import train_stage1
from boldscribe.training.stage2 import train_stage2

TRAIN: dict[str, Any] = {"stage1": train_stage1, "stage2": train_stage2, "pretrain_sc_mbm": pretrain_sc_mbm}


def main(stage: str, arguments: Path, at: int, folder: Path) -> None:
    torch.set_num_threads(1)
    update, save = Optimisation.update, Optimisation.save

    def update_when_told(self: Optimisation, values: Any) -> None:
        if self.done == at:
            (folder / f"reached.{rank()}").touch()
            while not (folder / "go").exists():
                time.sleep(0.02)
        update(self, values)

    def noted_save(self: Optimisation) -> None:
        save(self)
        with (folder / "saved").open("a") as file:
            file.write(f"{self.done}\n")

    Optimisation.update, Optimisation.save = update_when_told, noted_save  # type: ignore[method-assign]
    optimisation.CHECKPOINT_SHARE = 1e-9  # none is due after the first
    optimisation.tqdm = lambda *a, **k: tqdm(*a, **{**k, "mininterval": 0})  # type: ignore[attr-defined]  # writes at every step
    given: dict[str, Any] = json.loads(arguments.read_text())
    config = Config.model_validate(given.pop("config"))
    paths = {name: [Path(p) for p in v] if isinstance(v, list) else Path(v) for name, v in given.items()}
    print("what stands in the buffer of a pipe that nobody reads is lost")
    if rank() > 0:
        try:
            TRAIN[stage](config, "had", **paths)
        except preemption.Preempted:
            preemption.wait_for_first_process()
        return
    preemption.exit_on_sigterm()
    outputs = {name: [paths[name]] for name in ("output_dir", "weights", "curve") if name in paths}
    with record(Job(stage, folder, {}, outputs, {"dataset": "had"})):
        TRAIN[stage](config, "had", **paths)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
