"""The report as one self-contained page: decoded texts, their scores next to those of the controls, and their provenance."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from boldscribe import __version__
from boldscribe.conditions import KINDS
from boldscribe.config import Config
from boldscribe.descriptions import CAPTIONS, DESCRIPTIONS
from boldscribe.evaluation.copying import copying
from boldscribe.evaluation.metrics import title_of
from boldscribe.evaluation.notes import LABELS, author, notes, references, title
from boldscribe.evaluation.score_tables import read_signatures, read_warnings
from boldscribe.evaluation.trials_used import trials_sentence
from boldscribe.evaluation.typeset import columns_of
from boldscribe.evaluation.verdicts import ALARM, alarms, verdicts
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic
from boldscribe.models.model_names import video_model
from boldscribe.report.evidence import leakage, left_out_table, noise_ceiling, quality, retrieval_table
from boldscribe.report.figures import css_colours
from boldscribe.report.gallery import RULE, SHOWN, examples
from boldscribe.report.glass_brain import glass_brain, map_caption
from boldscribe.report.lineage import Audited, audited
from boldscribe.report.plots import forest, identification_curve, learning_curves, shown_metrics
from boldscribe.report.scoreboard import download, errors_of_the_paper, groups
from boldscribe.report.trial_table import pack_trials

STAGES = {
    "sc_mbm": "SC-MBM pretraining (masked autoencoder on fMRI)",
    "stage1": "Stage I (fMRI tokens aligned with video tokens)",
    "stage2": "Stage II (instruction tuning and domain adaptation)",
}
PARTS = ("page.html.j2", "dataset.html.j2", "macros.html.j2", "page.css", "trials.js")  # named here so that the fingerprint includes them
CITATION = (
    f"The Boldscribe developers. Boldscribe: a reproducible pipeline from video-stimulated fMRI to text. Version {__version__}. Apache-2.0."
)
LARGEST = 20_000_000  # bytes of a page
LARGEST_TRIALS = 9_000_000  # bytes of these for the trials of all data sets
STATIC_ROWS = 5_000  # trials of all data sets that a page lists for readers without JavaScript

PEOPLE = "Scores against people's sentences"

Files = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Results:
    """Files of one data set, selected from those of all by file name (`D.csv`, `D_tests.csv`) or folder name.

    Files that depend on the split carry the names of the data set's folds; without a rotation, its own name.
    """

    files: Files
    dataset: str
    folds: Sequence[str]

    def one(self, kind: str, name: str) -> Path:
        """Return the file of a kind that is called `{dataset}{name}`.

        Raises:
            UserError: there is none, or more than one.
        """
        found = [p for p in self.files.get(kind, ()) if p.name == f"{self.dataset}{name}"]
        if len(found) != 1:
            where = f"data set {self.dataset}"
            raise UserError(where, f"found {len(found)} files named {self.dataset}{name}, expected one among the {kind}; run that stage")
        return found[0]

    def of_folds(self, kind: str, name: str) -> list[Path]:
        """Return the file `{fold}{name}` of each fold; empty if no file of that kind was given, since not every run makes one."""
        return [replace(self, dataset=fold).one(kind, name) for fold in self.folds] if self.files.get(kind) else []

    def folder(self, kind: str) -> list[Path]:
        """Return the files of a kind in the folder of the data set, or in those of its folds.

        Raises:
            UserError: there is none.
        """
        paths = self.files.get(kind, ())
        if not (found := [p for p in paths if p.parent.name in self.folds]):
            names = ", ".join(p.name for p in paths[:3]) or "no file"
            raise UserError(f"data set {self.dataset}", f"none of {names} is in a folder {self.dataset}/; pass the {kind} of the data set")
        return found

    def curves(self) -> dict[str, Path]:
        """Return the learning curves by title, in training order, fold by fold.

        Raises:
            UserError: one is missing.
        """
        paths = [*self.files.get("sc_mbm", ()), *(folder / "curve.parquet" for folder in self.files.get("stages", ()))]
        titled: dict[str, Path] = {}
        for i, fold in enumerate(self.folds, 1):
            found = {stage: path for path in paths for stage in STAGES if stage in path.parts and fold in path.parts}
            if missing := sorted(set(STAGES) - set(found)):
                raise UserError(f"data set {self.dataset}", f"no learning curve of {', '.join(missing)}; run these stages")
            more = f", fold {i}" if len(self.folds) > 1 else ""
            titled |= {title + more: found[stage] for stage, title in STAGES.items()}
        return titled


def write_report(config: Config, files: Files, output: Path) -> None:
    """Write the report of all data sets as one HTML page that needs no other file.

    Args:
        config: the experiment.
        files: the inputs of the rule `report` by kind (docs/report.md).
        output: the page.

    Raises:
        UserError: a data set of the configuration has no table, scores or frames; files do not match each other.
    """
    record = audited(output.parent)
    datasets = [
        _section(config, Results(files, name, config.folds(name)), record) for name in tqdm(config.whole_datasets, "report", mininterval=5)
    ]
    loader = PackageLoader("boldscribe.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style, script = (loader.get_source(environment, name)[0] for name in PARTS[-2:])
    page = environment.get_template(PARTS[0]).render(
        datasets=datasets,
        rule=RULE.format(seed=config.seed),
        kinds=", ".join(LABELS[kind].lower() for kind in KINDS),
        references=references(config),
        author=author(config),
        models=video_model(config.video_llama),
        origin=record.origin,
        citation=CITATION,
        version=__version__,
        style=css_colours() + style,
        people_title=PEOPLE,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    if (size := len(page.encode())) > LARGEST:
        raise UserError(str(output), f"found {size / 1e6:.1f} MB, expected at most {LARGEST / 1e6:.0f}; report fewer data sets at once")
    with atomic(output) as part:
        part.write_text(page, encoding="utf-8")


def _section(config: Config, results: Results, record: Audited) -> dict[str, Any]:
    """Collect the page's content for one data set."""
    name, n_datasets = results.dataset, len(config.whole_datasets)
    paths = _paths(results, CAPTIONS)
    values, differences, tests, left_out = map(_read, paths.values())
    labels = results.folder("labels")
    scores = _scores(results, CAPTIONS)
    clips = pd.concat([pd.read_parquet(p) for p in labels], ignore_index=True).drop_duplicates(["subject", "trial"])
    people = _compared(config, results, record, DESCRIPTIONS) if DESCRIPTIONS in config.references(name) else None
    packed = pack_trials(scores, clips, largest=LARGEST_TRIALS // n_datasets)
    if len(packed.rows) > STATIC_ROWS // n_datasets:
        packed.rows.clear()
    leaked, curves = leakage(results.of_folds("leakage", ".json")), results.curves()
    compared = _compared(config, results, record, CAPTIONS)
    section = {
        **compared,
        "name": name,
        "label": config.datasets[name].title or name,
        "simulated": config.datasets[name].simulated is not None,
        "alarms": [*compared["alarms"], *(f"{PEOPLE}: {a}" for a in (people or {"alarms": []})["alarms"]), *leaked.alarms],
        "people": people,
        "errors": errors_of_the_paper(values),
        "forests": [figure for metric in shown_metrics(differences) if (figure := forest(differences, metric))],
        "identification": identification_curve(values, tests),
        "retrieval": retrieval_table(results.of_folds("retrieval", ".csv")),
        "curves": [(title, learning_curves(path, title)) for title, path in curves.items()],
        "examples": examples(scores, clips, results.folder("frames"), config.seed),
        "score_titles": {metric: title_of(metric) for metric in SHOWN},
        "packed": packed,
        **_brain(results),
        "evidence": [
            *noise_ceiling(results.of_folds("reliability", ".csv")),
            quality(results.of_folds("quality", ".csv"), left_out_table(left_out)),
            *leaked.parts,
        ],
    }
    return section | {"contents": _contents(section)}


def _compared(config: Config, results: Results, record: Audited, references: str) -> dict[str, Any]:
    """Collect the page's content for a table: what the texts score against captions or people's sentences, in words and numbers."""
    name, paths, scores = results.dataset, _paths(results, references), _scores(results, references)
    values, _, tests, left_out = map(_read, paths.values())
    scored = results.of_folds("scores", f"{references}.parquet")
    used = trials_sentence(config, name, results.folder("labels"), scores, left_out)
    raised = [*read_warnings(scored), *alarms(tests, references).values(), *copying(config, scores, references).values()]
    return {
        "table": f"{name}{references}",
        "title": title(config, name, references),
        "n_subjects": scores["subject"].nunique(),
        "n_trials": len(scores.drop_duplicates(["subject", "trial"])),
        "alarms": [alarm.removeprefix(f"{ALARM}: ") for alarm in raised],
        "words": _words(config, name, tests, references),
        "trials": used,
        "badges": {kind: record.verdict(paths[kind]) for kind in ("tables", "tests")},
        "columns": list(columns_of(values).values()),
        "total": groups(values, tests, "Total"),
        "rows": _rows(values, tests),
        "notes": notes(config, name, values, read_signatures(scored[0]), used, references),
        "files": [download(path) for path in [*paths.values(), *_texts(results, references)]],
    }


def _paths(results: Results, references: str) -> dict[str, Path]:
    """Return the CSV files of a table by kind."""
    names = {"tables": ".csv", "differences": "_differences.csv", "tests": "_tests.csv", "left_out": "_left_out.csv"}
    return {kind: results.one(kind, f"{references}{suffix}") for kind, suffix in names.items()}


def _scores(results: Results, references: str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in results.of_folds("scores", f"{references}.parquet")], ignore_index=True)


def _brain(results: Results) -> dict[str, Any]:
    """Return the map of where the information is, and a caption that states what it shows and how reliable it is."""
    maps, about = results.of_folds("maps", "_information.nii.gz"), results.of_folds("maps", "_information.json")
    if not maps or not about:
        return {"brain": None, "brain_caption": ""}
    of_fold = f" The map is from the first of {len(maps)} folds." if len(maps) > 1 else ""
    return {"brain": glass_brain(maps[0], results.dataset), "brain_caption": map_caption(about[0]) + of_fold}


def _rows(values: pd.DataFrame, tests: pd.DataFrame) -> list[tuple[str, str, Any]]:
    """Return name, our label and lines of each subject's row of the table. The paper may have more subjects than we do."""
    ours = values.dropna(subset=["subject"]).drop_duplicates("row").set_index("row")["subject"]
    rows = [row for row in dict.fromkeys(values["row"]) if row != "Total"]
    return [(row, f"sub-{ours[row]}" if row in ours else "in the paper only", groups(values, tests, row)) for row in rows]


def _words(config: Config, dataset: str, tests: pd.DataFrame, references: str) -> list[str]:
    """Return the test results as sentences, starting with the data set; alarms are shown elsewhere."""
    first, *others = (sentence for sentence in verdicts(config, tests, references) if not sentence.startswith(ALARM))
    design = config.datasets[dataset]
    bold = "simulated" if design.simulated is not None else "measured"
    against = ", against sentences that people wrote" if references == DESCRIPTIONS else ""
    return [f"On {design.title or dataset} ({bold} BOLD){against}, {first[0].lower()}{first[1:]}", *others]


def _read(path: Path) -> pd.DataFrame:
    """Read a table, with kinds named as in `CONDITIONS`."""
    table = pd.read_csv(path, dtype={"subject": str}, keep_default_na=False, na_values=[""])
    return table.replace({"kind": {"null control": "null"}}) if "kind" in table else table


def _texts(results: Results, references: str) -> list[Path]:
    """Return the Markdown and LaTeX files of a table."""
    kinds = (("markdown", ".md"), ("latex", ".tex"))
    return [results.one(kind, f"{references}{suffix}") for kind, suffix in kinds if results.files.get(kind)]


def _contents(section: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return anchor and title of each part of the section."""
    parts = [("words", "Summary"), ("scores", "Scores")]
    parts += [("people", PEOPLE)] if section["people"] else []
    parts += [("controls", "Against each control")]
    parts += [("identification", "Identification")] if section["identification"] else []
    parts += [("learning", "Learning"), ("examples", "Examples"), ("all", "All trials")]
    parts += [("brain", "Where the information is")] if section["brain"] else []
    return parts + [(part.id, part.title) for part in section["evidence"]]
