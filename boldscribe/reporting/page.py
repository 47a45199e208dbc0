"""One self-contained page: what was decoded, how well beside its controls, and what is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.evaluation import typeset
from boldscribe.evaluation.trials_used import trials_sentence
from boldscribe.files import atomic
from boldscribe.reporting.figures import curve_figure, score_figure
from boldscribe.reporting.gallery import RULE, examples
from boldscribe.reporting.lineage import badges

STAGES = {
    "sc_mbm": "SC-MBM pretraining (masked autoencoder on fMRI)",
    "stage1": "Stage I (fMRI tokens aligned with video tokens)",
    "stage2": "Stage II (instruction tuning and domain adaptation)",
}


def write_report(
    config: Config,
    *,
    tables: Sequence[Path],
    differences: Sequence[Path],
    left_out: Sequence[Path],
    scores: Sequence[Path],
    labels: Sequence[Path],
    frames: Sequence[Path],
    stages: Sequence[Path],
    sc_mbm: Sequence[Path],
    output: Path,
) -> None:
    """Write the report of all data sets as one HTML page that needs no other file.

    Files belong to the data set that their name (`tables`, `differences`, `left_out`) or folder has (docs/data.md).

    Args:
        config: the experiment.
        tables, differences, left_out: of each data set (`make_tables`).
        scores: per-trial scores of all validation subjects and conditions.
        labels: clip and action of all subjects' trials.
        frames: frame arrays of the test shards.
        stages: folders of Stage I and II with their `curve.parquet`.
        sc_mbm: pretraining curves.
        output: the page.

    Raises:
        UserError: a data set of the configuration has no table, scores or frames; files that do not fit each other.
    """
    tables_by_name = {name: _one(tables, name, f"{name}.csv") for name in config.datasets}
    audited = badges(output.parent, list(tables_by_name.values()))
    datasets = [
        _section(
            config,
            name,
            badge=audited[f"{name}.csv"],
            table=tables_by_name[name],
            differences=_one(differences, name, f"{name}_differences.csv"),
            left_out=_one(left_out, name, f"{name}_left_out.csv"),
            scores=_of(scores, name),
            labels=_of(labels, name),
            frames=_of(frames, name),
            curves=_curves(stages, sc_mbm, name),
        )
        for name in tqdm(list(config.datasets), "report", mininterval=5)
    ]
    environment = Environment(
        loader=PackageLoader("boldscribe.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html.j2").render(datasets=datasets, rule=RULE, columns=list(typeset.COLUMNS.values()))
    with atomic(output) as part:
        part.write_text(page, encoding="utf-8")


def _section(
    config: Config,
    name: str,
    *,
    badge: str,
    table: Path,
    differences: Path,
    left_out: Path,
    scores: Sequence[Path],
    labels: Sequence[Path],
    frames: Sequence[Path],
    curves: dict[str, Path],
) -> dict[str, Any]:
    """What the page shows of one data set."""
    values, contrasts = pd.read_csv(table, dtype={"subject": str}), pd.read_csv(differences, dtype={"subject": str})
    trials, clips = (pd.concat([pd.read_parquet(p) for p in paths], ignore_index=True) for paths in (scores, labels))
    used = trials_sentence(config, name, labels, trials, pd.read_csv(left_out, dtype={"subject": str}))
    return {
        "name": name,
        "badge": badge,
        "title": typeset.title(config, name),
        "simulated": config.datasets[name].simulated is not None,
        "n_subjects": trials["subject"].nunique(),
        "n_trials": int((trials["condition"] == "model").sum()),
        "verdicts": typeset.verdicts(contrasts),
        "figure": score_figure(values),
        "grid": typeset.grid(values),
        "difference_grid": typeset.difference_grid(contrasts),
        "trials": used,
        "notes": typeset.notes(config, name, values, used),
        "curves": [(STAGES[stage], curve_figure(path)) for stage, path in curves.items()],
        "examples": examples(trials, clips, frames),
    }


def _curves(stages: Sequence[Path], sc_mbm: Sequence[Path], dataset: str) -> dict[str, Path]:
    """The learning curves of a data set by stage, in the order of training."""
    paths = [*sc_mbm, *(folder / "curve.parquet" for folder in stages)]
    found = {path.parts[-3]: path for path in paths if len(path.parts) > 2 and path.parts[-2] == dataset}
    if missing := sorted(set(STAGES) - set(found)):
        raise UserError(f"data set {dataset}", f"no learning curve of {', '.join(missing)}; expected STAGE/{dataset}/curve.parquet")
    return {stage: found[stage] for stage in STAGES}


def _of(paths: Sequence[Path], dataset: str) -> list[Path]:
    """The files in a data set's folder."""
    if not (found := [p for p in paths if p.parent.name == dataset]):
        raise UserError(f"data set {dataset}", f"none of {', '.join(p.name for p in paths[:3]) or 'no file'} is in a folder {dataset}/")
    return found


def _one(paths: Sequence[Path], dataset: str, name: str) -> Path:
    found = [p for p in paths if p.name == name]
    if len(found) != 1:
        raise UserError(f"data set {dataset}", f"found {len(found)} files named {name}, expected one; run the tables stage")
    return found[0]
