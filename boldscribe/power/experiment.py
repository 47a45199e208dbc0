"""One simulated experiment, from the clips to the tests: the pipeline's own steps, one after the other in one process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boldscribe.bold.noise import write_noise_series
from boldscribe.bold.placement import voxels_path
from boldscribe.bold.trials import EXCLUDED_TYPES, LABEL_TYPES, TRIAL_TYPES, first_volume, role
from boldscribe.conditions import CONDITIONS, ENCODERS, NOISY, NULLS, TOKENS
from boldscribe.config import Config
from boldscribe.decoding.best_captions import write_best_captions
from boldscribe.decoding.decode import decode
from boldscribe.decoding.task import Task, inputs_of
from boldscribe.encoding import write_fmri_tokens
from boldscribe.errors import UserError
from boldscribe.evaluation.scores import write_scores
from boldscribe.evaluation.tables import make_tables
from boldscribe.files import atomic, load_array
from boldscribe.power.clips import Clips
from boldscribe.power.design import DATASET
from boldscribe.simulation.dataset import plan
from boldscribe.simulation.series import write_simulated_series
from boldscribe.stimuli.captions import COLUMNS as CAPTIONS
from boldscribe.training.pretrain import pretrain_sc_mbm
from boldscribe.training.stage1 import train_stage1
from boldscribe.training.stage2 import train_stage2


class Experiment:
    """A simulated experiment in a folder of its own.

    Args:
        config: of `boldscribe.power.design.experiment`.
        clips: as many as it shows.
        models: folder of the model folders.
        folder: for all that it makes.

    Raises:
        UserError: a ceiling among the conditions, whose texts a simulated experiment does not have.
    """

    def __init__(self, config: Config, clips: Clips, models: Path, folder: Path) -> None:
        self.config, self.clips, self.models, self.folder = config, clips, models, folder
        design = config.datasets[DATASET]
        self.source, self.target = design.train_subjects, design.validation_subjects
        self.conditions = config.conditions(DATASET)
        if ceilings := [c for c in self.conditions if CONDITIONS[c].kind == "ceiling"]:
            raise UserError("decoding.controls", f"found {', '.join(ceilings)}, expected no ceiling; leave out of the configuration")
        # As the rules do: a Stage II for each variant that a condition is decoded by, and the encoders that these read through.
        self.variants = list(dict.fromkeys(CONDITIONS[c].variant for c in self.conditions if "stage2" in inputs_of(c)))
        self.encoders = list(dict.fromkeys(ENCODERS[v] for v in self.variants))

    def scan(self) -> None:
        """BOLD, trials, labels and captions of all subjects, the best of these, and noise in place of BOLD where it is read."""
        _, viewed = plan(self.config, DATASET)
        records = viewed.merge(self.clips.captions, on="stim_file", how="left", validate="one_to_one")
        for subject, trials in records.groupby("subject"):
            trials = trials.reset_index(drop=True)
            write_simulated_series(self.config, DATASET, str(subject), self.clips.scenes, trials, self.series(str(subject)))
            self._write_records(str(subject), trials)
        captions, labels = ([path(s) for s in self.source] for path in (self.captions_of, self.labels))
        write_best_captions(self.config, DATASET, captions=captions, labels=labels, best=self.best_captions)
        for subject in [*(self.source if "noise" in self.encoders else []), *self.target]:
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
        """SC-MBM, Stage I, the fMRI tokens, and Stage II."""
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
        for encoder in self.encoders:
            train_stage1(
                self.config,
                DATASET,
                encoder,
                series=[self.series(s, encoder) for s in self.source],
                trials=[self.trials(s, encoder) for s in self.source],
                labels=labels,
                features=[self.clips.features],
                sc_mbm=self.folder / "sc_mbm.safetensors",
                output_dir=self.folder / "stage1" / encoder,
                work_dir=work,
            )
        read = {(ENCODERS[v], part) for v in self.variants for part in ("train", "adapt")}
        for variant, part in sorted(read | {(TOKENS[c], "test") for c in self.conditions if "tokens" in inputs_of(c)}):
            self._encode(part, variant)
        for variant in self.variants:
            train_stage2(
                self.config,
                DATASET,
                variant,
                trials=trials,
                labels=labels,
                captions=[self.captions_of(s) for s in self.source],
                tokens=self.tokens("train", ENCODERS[variant]),
                target_tokens=self.tokens("adapt", ENCODERS[variant]),
                models_dir=self.models,
                output_dir=self.folder / "stage2" / variant,
                work_dir=work,
            )

    def decode(self) -> list[Path]:
        """The texts of the model and of all controls."""
        written = []
        for condition in self.conditions:
            files = self._files(condition)
            given = {name: files[name] for name in inputs_of(condition)}
            written.append(self.folder / "decoded" / f"condition-{condition}.parquet")
            decode(Task(self.config, DATASET, condition, [self.trials(s) for s in self.target], given), written[-1])
        return written

    def tests(self, decoded: Sequence[Path]) -> pd.DataFrame:
        """Scores, then the tests of the model against each null control, target subjects together: rows of `TESTS` (docs/data.md)."""
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

    def series(self, subject: str, variant: str = "model") -> Path:
        """A subject's cleaned series, or for some variants the noise in its place."""
        return self.folder / _kind(variant) / f"sub-{subject}_bold.npy"

    def trials(self, subject: str, variant: str = "model") -> Path:
        """Index of a subject's trials in that series."""
        return self.folder / _kind(variant) / f"sub-{subject}_trials.parquet"

    def labels(self, subject: str) -> Path:
        """What a subject saw."""
        return self.folder / "labels" / f"sub-{subject}_labels.parquet"

    def excluded(self, subject: str) -> Path:
        """A subject's trials that are left out, of which there are none."""
        return self.folder / "labels" / f"sub-{subject}_excluded.parquet"

    def captions_of(self, subject: str) -> Path:
        """Captions of the clips that a subject saw."""
        return self.folder / "captions" / f"sub-{subject}_captions.parquet"

    @property
    def best_captions(self) -> Path:
        """The best source caption of each instruction and action."""
        return self.folder / "captions" / "best_captions.parquet"

    def tokens(self, part: str, variant: str) -> Path:
        """fMRI tokens of the trials of a role."""
        return self.folder / "fmri_tokens" / f"variant-{variant}_role-{part}_tokens.npy"

    def _files(self, condition: str) -> dict[str, list[Path]]:
        """All that a condition may ask for, by the names of the rule `decode`."""
        variant = CONDITIONS[condition].variant
        return {
            "models": [self.models / "llm"],
            "stage2": [self.folder / "stage2" / variant],
            "tokens": [self.tokens("test", TOKENS[condition])],
            "adapt_tokens": [self.tokens("adapt", ENCODERS[variant])],
            "train_tokens": [self.tokens("train", ENCODERS[variant])],
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

    def _encode(self, part: str, variant: str) -> None:
        subjects = self.source if part == "train" else self.target
        write_fmri_tokens(
            self.config,
            part,
            series=[self.series(s, variant) for s in subjects],
            trials=[self.trials(s, variant) for s in subjects],
            stage1_dir=self.folder / "stage1" / ENCODERS[variant],
            output=self.tokens(part, variant),
        )

    def _write_records(self, subject: str, trials: pd.DataFrame) -> None:
        """A subject's trials, labels and captions, as the rules `trials` and `captions` write them."""
        design, bold = self.config.datasets[DATASET], self.config.bold
        runs = {run["run"]: run for run in load_array(self.series(subject))[1]["runs"]}
        start = [runs[run]["first_volume"] for run in trials["run"]]
        first = [first_volume(onset + bold.delay, 0.0, self.config.simulation.repetition_time) for onset in trials["onset"]]
        table = trials.assign(dataset=DATASET, subject=subject, trial=np.arange(len(trials)), n_volumes=bold.n_volumes, high_motion=0.0)
        table = table.assign(first_volume=np.add(start, first), role=[role(design, subject, run) for run in trials["run"]])
        table = table.assign(action=[self.clips.scenes[clip].action for clip in trials["stim_file"]], source=trials["stim_file"])
        table = table.assign(start=0.0, description="")
        _write(self.trials(subject), table[list(TRIAL_TYPES)].astype(TRIAL_TYPES))
        _write(self.labels(subject), table[list(LABEL_TYPES)].astype(LABEL_TYPES))
        _write(self.excluded(subject), pd.DataFrame(columns=list(EXCLUDED_TYPES)).astype(EXCLUDED_TYPES))
        _write(self.captions_of(subject), table.loc[table["role"] != "adapt", CAPTIONS])


def _kind(variant: str) -> str:
    return "noise" if variant in NOISY else "bold"


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic(path) as part:
        table.to_parquet(part, index=False)
