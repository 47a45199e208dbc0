"""One simulated experiment, from the clips to the tests: the pipeline's own steps, run sequentially in one process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boldscribe.conditions import CONDITIONS, DATA_OF, ENCODER_OF, NULLS, needed
from boldscribe.config import Config
from boldscribe.data.noise import write_noise_series
from boldscribe.data.placement import voxels_path
from boldscribe.data.presentations import REPEATS
from boldscribe.data.trials import EXCLUDED_TYPES, LABEL_TYPES, TRIAL_TYPES, first_volume, role
from boldscribe.decoding.best_captions import write_best_captions
from boldscribe.decoding.decode import decode
from boldscribe.decoding.task import Task, inputs_of
from boldscribe.evaluation.scores import write_scores
from boldscribe.evaluation.tables import make_tables
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, load_array
from boldscribe.models.encoding import write_fmri_tokens
from boldscribe.power.design import DATASET
from boldscribe.power.rendered_clips import Clips
from boldscribe.simulation.dataset import plan
from boldscribe.simulation.simulated_series import write_simulated_series
from boldscribe.stimuli.captions import COLUMNS as CAPTIONS
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.stage1 import train_stage1
from boldscribe.training.stage2 import train_stage2


class Experiment:
    """A simulated experiment in a separate folder.

    Args:
        config: from `boldscribe.power.design.experiment`.
        clips: as many as the experiment shows.
        models: folder of the model folders.
        folder: for all outputs.

    Raises:
        UserError: a ceiling is among the conditions; a simulated experiment does not have its texts.
    """

    def __init__(self, config: Config, clips: Clips, models: Path, folder: Path) -> None:
        self.config, self.clips, self.models, self.folder = config, clips, models, folder
        design = config.datasets[DATASET]
        self.source, self.target = design.train_subjects, design.validation_subjects
        self.conditions = config.conditions(DATASET)
        if ceilings := [c for c in self.conditions if CONDITIONS[c].kind == "ceiling"]:
            raise UserError("decoding.controls", f"found {', '.join(ceilings)}, expected no ceiling; remove it from the configuration")
        self.needed = needed(self.conditions)

    def scan(self) -> None:
        """Write BOLD, trials, labels and captions of all subjects, the best captions, and noise instead of BOLD where it is read."""
        _, viewed = plan(self.config, DATASET)
        records = viewed.merge(self.clips.captions, on="stim_file", how="left", validate="one_to_one")
        for subject, trials in records.groupby("subject"):
            trials = trials.reset_index(drop=True)
            write_simulated_series(self.config, DATASET, str(subject), self.clips.scenes, trials, self.series(str(subject)))
            self._write_records(str(subject), trials)
        captions, labels = ([path(s) for s in self.source] for path in (self.captions_of, self.labels))
        write_best_captions(self.config, DATASET, captions=captions, labels=labels, best=self.best_captions)
        for subject in [*(self.source if "train" in self.needed.noise else []), *self.target]:
            write_noise_series(
                self.config,
                DATASET,
                subject,
                series=self.series(subject),
                trials=self.trials(subject),
                noise=self.series(subject, "noise"),
                noise_trials=self.trials(subject, "noise"),
            )

    def train(self) -> None:
        """Train SC-MBM and Stage I, write the fMRI tokens, and train Stage II."""
        work = self.folder / "work"
        series, trials, labels = ([path(s) for s in self.source] for path in (self.series, self.trials, self.labels))
        pretrain_sc_mbm(
            self.config,
            DATASET,
            series=series,
            trials=trials,
            weights=self.folder / "sc_mbm.safetensors",
            curve=self.folder / "sc_mbm_curve.parquet",
            work_dir=work,
        )
        for encoder in self.needed.encoders:
            train_stage1(
                self.config,
                DATASET,
                encoder,
                series=[self.series(s, DATA_OF[encoder]) for s in self.source],
                trials=[self.trials(s, DATA_OF[encoder]) for s in self.source],
                labels=labels,
                features=[self.clips.features],
                sc_mbm=self.folder / "sc_mbm.safetensors",
                output_dir=self.folder / "stage1" / encoder,
                work_dir=work,
            )
        for encoder, data, part in self.needed.tokens:
            self._encode(encoder, data, part)
        for bridge in self.needed.bridges:
            encoder = ENCODER_OF[bridge]
            train_stage2(
                self.config,
                DATASET,
                bridge,
                trials=trials,
                labels=labels,
                captions=[self.captions_of(s) for s in self.source],
                tokens=self.tokens(encoder, DATA_OF[encoder], "train"),
                target_tokens=self.tokens(encoder, DATA_OF[encoder], "adapt"),
                models_dir=self.models,
                output_dir=self.folder / "stage2" / bridge,
                work_dir=work,
            )

    def decode(self) -> list[Path]:
        """Decode the texts of the model and of all controls."""
        written = []
        for condition in self.conditions:
            files = self._files(condition)
            given = {name: files[name] for name in inputs_of(condition)}
            written.append(self.folder / "decoded" / f"condition-{condition}.parquet")
            decode(Task(self.config, DATASET, condition, [self.trials(s) for s in self.target], given), written[-1])
        return written

    def tests(self, decoded: Sequence[Path]) -> pd.DataFrame:
        """Score, then test the model against each null control, target subjects together: rows of `TESTS` (docs/data.md)."""
        scores, pairs = self.folder / "scores.parquet", self.folder / "pairs.parquet"
        captions = [self.captions_of(s) for s in self.target]
        write_scores(self.config, decoded=decoded, captions=captions, models_dir=self.models, scores=scores, pairs=pairs)
        subjects = [*self.source, *self.target]
        tables = {name: self.folder / "tables" / f"{name}.csv" for name in ("csv", "md", "tex", "differences", "tests", "left_out")}
        make_tables(
            self.config,
            DATASET,
            scores=[scores],
            pairs=[pairs],
            labels=[self.labels(s) for s in subjects],
            excluded=[self.excluded(s) for s in subjects],
            **tables,
        )
        tests = pd.read_csv(tables["tests"])
        return tests[(tests["row"] == "Total") & tests["against"].isin(NULLS)].drop(columns=["dataset", "row", "subject"])

    def series(self, subject: str, data: str = "fmri") -> Path:
        """Return the path of a subject's cleaned series, or of the noise that replaces it."""
        return self.folder / data / f"sub-{subject}_bold.npy"

    def trials(self, subject: str, data: str = "fmri") -> Path:
        """Return the path of the index of a subject's trials in that series."""
        return self.folder / data / f"sub-{subject}_trials.parquet"

    def labels(self, subject: str) -> Path:
        """Return the path of the labels that state what a subject saw."""
        return self.folder / "labels" / f"sub-{subject}_labels.parquet"

    def excluded(self, subject: str) -> Path:
        """Return the path of a subject's excluded trials, of which there are none."""
        return self.folder / "labels" / f"sub-{subject}_excluded.parquet"

    def captions_of(self, subject: str) -> Path:
        """Return the path of the captions of the clips that a subject saw."""
        return self.folder / "captions" / f"sub-{subject}_captions.parquet"

    @property
    def best_captions(self) -> Path:
        """Path of the best source caption of each instruction and action."""
        return self.folder / "captions" / "best_captions.parquet"

    def tokens(self, encoder: str, data: str, part: str) -> Path:
        """Return the path of the fMRI tokens of the trials of a role."""
        return self.folder / "fmri_tokens" / f"encoder-{encoder}_data-{data}_role-{part}_tokens.npy"

    def _files(self, condition: str) -> dict[str, list[Path]]:
        """Return all files that a condition may request, by their names in the rule `decode`."""
        chosen = CONDITIONS[condition]
        return {
            "models": [self.models / "llm"],
            "stage2": [self.folder / "stage2" / chosen.bridge],
            "tokens": [self.tokens(chosen.encoder, chosen.data, "test")],
            "adapt_tokens": [self.tokens("model", "fmri", "adapt")],
            "train_tokens": [self.tokens("model", "fmri", "train")],
            "test_labels": [self.labels(s) for s in self.target],
            "series": [self.series(s) for s in self.target],
            "voxels": [voxels_path(self.series(s)) for s in self.target],
            "source_series": [self.series(s) for s in self.source],
            "source_voxels": [voxels_path(self.series(s)) for s in self.source],
            "source_trials": [self.trials(s) for s in self.source],
            "source_labels": [self.labels(s) for s in self.source],
            "source_captions": [self.captions_of(s) for s in self.source],
            "best_captions": [self.best_captions],
            "source_features": [self.clips.features],
        }

    def _encode(self, encoder: str, data: str, part: str) -> None:
        subjects = self.source if part == "train" else self.target
        write_fmri_tokens(
            self.config,
            part,
            series=[self.series(s, data) for s in subjects],
            trials=[self.trials(s, data) for s in subjects],
            stage1_dir=self.folder / "stage1" / encoder,
            output=self.tokens(encoder, data, part),
        )

    def _write_records(self, subject: str, trials: pd.DataFrame) -> None:
        """Write a subject's trials, labels and captions, as the rules `trials` and `captions` do."""
        design, bold = self.config.datasets[DATASET], self.config.bold
        runs = {run["run"]: run for run in load_array(self.series(subject))[1]["runs"]}
        start = [runs[run]["first_volume"] for run in trials["run"]]
        first = [first_volume(onset + bold.delay, 0.0, self.config.simulation.repetition_time) for onset in trials["onset"]]
        table = trials.assign(dataset=DATASET, subject=subject, trial=np.arange(len(trials)), n_volumes=bold.n_volumes, high_motion=0.0)
        table[REPEATS] = pd.Series([[]] * len(table), dtype=object)
        table = table.assign(first_volume=np.add(start, first), role=[role(design, subject, run) for run in trials["run"]])
        table = table.assign(action=[self.clips.scenes[clip].action for clip in trials["stim_file"]], source=trials["stim_file"])
        table = table.assign(start=0.0, description="")
        _write(self.trials(subject), table[list(TRIAL_TYPES)].astype(TRIAL_TYPES))
        _write(self.labels(subject), table[list(LABEL_TYPES)].astype(LABEL_TYPES))
        _write(self.excluded(subject), pd.DataFrame(columns=list(EXCLUDED_TYPES)).astype(EXCLUDED_TYPES))
        _write(self.captions_of(subject), table.loc[table["role"] != "adapt", CAPTIONS])


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic(path) as part:
        table.to_parquet(part, index=False)
