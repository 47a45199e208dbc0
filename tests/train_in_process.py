"""One of the processes of a training: `python -m tests.train_in_process stage1 arguments.json`, under torchrun or alone."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from boldscribe.config import Config
from boldscribe.training.stage1 import train_stage1
from boldscribe.training.stage2 import train_stage2


def main(stage: str, arguments: Path) -> None:
    torch.set_num_threads(1)
    given: dict[str, Any] = json.loads(arguments.read_text())
    config = Config.model_validate(given.pop("config"))
    paths = {name: [Path(p) for p in v] if isinstance(v, list) else Path(v) for name, v in given.items()}
    train: Any = {"stage1": train_stage1, "stage2": train_stage2}[stage]
    train(config, "had", **paths)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
