"""Sections of the configuration: both stages of training, decoding and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from boldscribe.conditions import CONDITIONS
from boldscribe.machinery.section import Section, key


def _known(name: str) -> str:
    if name not in CONDITIONS or name == "model":
        raise ValueError(f"expected one of {', '.join(c for c in CONDITIONS if c != 'model')}")
    return name


Control = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": [name for name in CONDITIONS if name != "model"]})]


class Stage1Settings(Section):
    """Cross-modal alignment, L_Total = beta L_CLIP + (1 - beta) L_L2L1."""

    alpha: float = key(0.5, "weight of L1 relative to L2 (equation 2)", "practice", ge=0, le=1)
    beta: float = key(0.75, "weight of L_CLIP", "practice", ge=0, le=1)
    temperature: float = key(0.05, "initial temperature of L_CLIP", "paper 3.2", gt=0)
    learn_temperature: bool = key(True, "train the temperature", "paper 3.2")
    epochs: int = key(100, "maximum number of epochs", "practice", ge=1)
    patience: int = key(
        10,
        "epochs without better retrieval (if equal, better reconstruction) of held-out source trials before training stops",
        "practice",
        ge=1,
    )
    holdout: float = key(0.1, "share of source clips held out, with all their trials, for early stopping", "practice", gt=0, lt=1)
    batch_size: int = key(128, "trials per optimiser step", "practice", ge=2)
    accumulate: int = key(1, "parts of a batch, computed in turn to save memory; each contrasts only its own trials", "ours", ge=1)
    learning_rate: float = key(3e-4, "peak learning rate of the one-cycle schedule, AdamW (0.9, 0.95)", "practice", gt=0)
    weight_decay: float = key(0.05, "weight decay of AdamW", "practice")
    grad_clip: float = key(0.8, "maximum gradient norm", "SC-MBM", gt=0)
    noise: float = key(0.0, "SD of Gaussian noise added to the z-scored input in training (SD)", "ours", ge=0)
    dropout: float = key(0.0, "dropout of fMRI tokens in training", "ours", ge=0, lt=1)


class Stage2Settings(Section):
    """Instruction tuning with domain adaptation, lambda L_CE + (1 - lambda)(L_NC + L_ES)."""

    lambda_: float = key(0.95, "weight of the cross-entropy (equation 6)", "DANCE", alias="lambda", ge=0, le=1)
    preset: Literal["paper", "dance"] = key(
        "paper", "form of equations 4 and 5: as printed, or as computed by the method's original code (docs/method.md)", "DANCE"
    )
    nc_temperature: float | None = key(
        None,
        "temperature of neighbourhood clustering (equation 4); null for the preset's value, 0.5 (paper) or 0.05 (dance)",
        "paper 3.2",
        gt=0,
    )
    nc_live: bool = key(
        True, "compare each target trial with the current features of its batch, not with their copies in the memory bank", "DANCE"
    )
    nc_weight: float = key(1.0, "weight of neighbourhood clustering", "DANCE", ge=0)
    es_weight: float = key(1.0, "weight of entropy separation", "DANCE", ge=0)
    es_margin: float = key(0.5, "margin m of entropy separation (equation 5)", "DANCE", ge=0)
    es_threshold: float | None = key(None, "threshold rho of entropy separation; null for log(C)/2", "DANCE")
    adaptation: Literal["none", "nc", "es", "both"] = key("both", "adaptation losses in use", "paper 3.2")
    class_weight: float = key(
        1.0,
        "weight of the classifier head's loss on source labels, without which its rows have no meaning; not in the paper",
        "DANCE",
        ge=0,
    )
    memory_momentum: float = key(0.0, "share of the old feature kept in the memory bank", "DANCE", ge=0, lt=1)
    steps: int = key(3000, "optimiser steps", "Video-LLaMA", ge=1)
    warmup_steps: int = key(1000, "steps of linear warm-up", "Video-LLaMA", ge=0)
    batch_size: int = key(4, "source trials per pass through the LLM", "Video-LLaMA", ge=1)
    accumulate: int = key(
        8, "passes per optimiser step, which uses batch_size x accumulate source trials and as many target trials", "Video-LLaMA", ge=1
    )
    learning_rate: float = key(3e-5, "peak learning rate of AdamW, with cosine decay", "Video-LLaMA", gt=0)
    min_learning_rate: float = key(1e-5, "final learning rate of the cosine decay", "Video-LLaMA")
    weight_decay: float = key(0.05, "weight decay of AdamW", "Video-LLaMA")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Training(Section):
    """Computation of pretraining, Stage I and Stage II, with the same results except for rounding."""

    precision: Literal["float32", "bfloat16"] = key(
        "bfloat16", "precision of the fMRI encoder's matrix products and convolutions, in training and encoding", "practice"
    )
    compile: bool = key(
        True, "compile the fMRI encoder (torch.compile, needs a C compiler): minutes at the start, then faster steps", "ours"
    )
    processes: int = key(1, "GPUs per training run (torchrun)", "ours", ge=1)
    nodes: int = key(1, "machines over which these processes are divided equally; more than one needs Slurm", "ours", ge=1)

    @model_validator(mode="after")
    def _shared_equally(self) -> Training:
        if self.processes % self.nodes:
            raise ValueError(f"processes: found {self.processes}, expected a multiple of nodes, {self.nodes}, which share them equally")
        return self


class Decoding(Section):
    """Text generation from fMRI tokens and prompt only."""

    controls: Literal["all"] | list[Control] = key(
        "all",
        "conditions besides the model: 'all', or names (docs/controls.md); those impossible in an experiment are excluded, and the tables "
        "state why",
        "validity",
    )
    max_new_tokens: int = key(128, "maximum length of an answer (tokens)", "practice", ge=1)
    batch_size: int = key(128, "trials per batch", "ours: 7B and its cache take 30 GB", ge=1)

    @field_validator("controls")
    @classmethod
    def _check_controls(cls, controls: str | list[str]) -> str | list[str]:
        if len(set(controls)) < len(controls) and controls != "all":
            raise ValueError(f"a control is named twice: {', '.join(controls)}")
        return controls

    @property
    def asked_for(self) -> list[str]:
        """Names of the requested controls."""
        return [name for name in CONDITIONS if name != "model"] if self.controls == "all" else list(self.controls)


class Evaluation(Section):
    """Scores, their intervals and tests."""

    bertscore_model: str = key("models/roberta-large", "folder of BERTScore's encoder; 'embedded' is MiniLM", "practice")
    bertscore_layer: int = key(17, "layer of BERTScore's encoder", "practice", ge=1)
    bertscore_baseline: str | None = key("models/roberta-large/baseline.tsv", "rescaling baseline; null leaves the scores raw", "practice")
    sentence_encoder: str = key(
        "models/all-MiniLM-L6-v2", "folder of the sentence encoder for identification; 'embedded' is MiniLM", "ours"
    )
    bootstrap_samples: int = key(10000, "bootstrap resamples of subjects, then of their trials, for the 95% intervals", "validity", ge=100)
    permutations: int = key(10000, "permutations of each subject's references for the tests", "validity", ge=100)
    significance: float = key(
        0.05, "maximum probability of any false claim, over all controls and metrics of a table", "validity", gt=0, lt=1
    )
    identification_ways: list[int] = key([2, 10, 50, 180], "numbers of candidates for identification", "validity", min_length=1)
