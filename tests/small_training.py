"""A training of three numbers that runs anywhere: `[launcher] -m tests.small_training --config C --work W --out FILE --steps N`.

After each step, process R writes W/step.R; a step takes 50 ms.
"""

import time
from pathlib import Path

import torch

from boldscribe.config import Config
from boldscribe.machinery.cluster import preemption
from boldscribe.training.checkpoints import Checkpoints
from boldscribe.training.distributed import process_group, rank
from boldscribe.training.optimisation import Optimisation
from boldscribe.workflow import Output, program


@program("stage1", shut=True)
def main(config: Config, steps: str, out: Output, work: Path) -> None:
    """Train."""
    with preemption.handling_signals(), process_group():
        weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        training = Optimisation(
            seed=1,
            purpose=("stage1",),
            parameters={"weight": weight},
            rate=lambda step: 0.1,
            steps=int(steps),
            weight_decay=0.0,
            grad_clip=None,
            checkpoints=Checkpoints("stage1", work, {}, []),
        )
        training.resume()
        for step in training:
            loss = (weight - torch.randn(3, dtype=torch.float64)).square().sum()
            loss.backward()
            training.update({"loss": loss})
            training.curve.append({"step": step, **training.means()})
            time.sleep(0.05)
            (work / f"step.{rank()}").write_text(str(step))
    if rank() == 0:
        out.write_text(f"{weight.tolist()} {training.curve}")


if __name__ == "__main__":
    main()
