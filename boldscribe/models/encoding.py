"""fMRI tokens of each trial, computed once by the frozen encoder of Stage I, for Stage II and for decoding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.data.batches import Batches
from boldscribe.data.windows import Windows
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array
from boldscribe.models.device import autocast, best_device
from boldscribe.models.fmri_encoder import load_encoder

BATCH = 64
LABELS = {"stim_file", "action", "text", "trial_type"}


def write_fmri_tokens(config: Config, role: str, *, series: Sequence[Path], trials: Sequence[Path], stage1_dir: Path, output: Path) -> None:
    """Encode all trials of a role (`train`, `adapt` or `test`): float16 (trials, L, d); the header lists `subjects` and `trials`.

    Raises:
        UserError: a table contains stimuli or labels, or there is no trial of that role.
    """
    table = trials_of_role(role, trials)
    device = best_device()
    batches = Batches(Windows(series, table, config.tokenizer.grid), device)
    encoder = load_encoder(config, stage1_dir).to(device)
    widths = config.video_llama.q_former
    z_NLD = np.empty((len(table), widths.n_queries, widths.hidden_size), np.float16)
    parts = torch.arange(len(table)).split(BATCH)
    for i, rows in enumerate(tqdm(parts, "fMRI tokens", mininterval=5)):
        if i + 1 < len(parts):
            batches.expect(parts[i + 1])
        with torch.inference_mode(), autocast(device, config.training.precision):
            z_NLD[rows.numpy()] = encoder(batches.load(rows)).half().cpu().numpy()
    save_array(
        output,
        z_NLD,
        axes=["trial", "token", "feature"],
        role=role,
        subjects=table["subject"].tolist(),
        trials=table["trial"].tolist(),
    )


def trials_of_role(role: str, trials: Sequence[Path]) -> pd.DataFrame:
    """Read the unlabelled trials of a role, ordered by subject and trial.

    Raises:
        UserError: a table contains stimuli or labels, or there is no trial of that role.
    """
    table = pd.concat([pd.read_parquet(p) for p in trials])
    where = ", ".join(map(str, trials))
    if told := sorted(LABELS & set(table.columns)):
        raise UserError(where, f"columns: found {', '.join(told)}, expected none of them: fMRI is encoded without knowing what was seen")
    table = table[table["role"] == role].sort_values(["subject", "trial"]).reset_index(drop=True)
    if table.empty:
        raise UserError(where, f"role: found no trial with {role!r}; set adaptation_runs and test_runs in the configuration")
    return table
