"""Conditions: the model, and all that it is compared with (docs/controls.md). What each is, what it reads, and what it can show.

Rules read this table to hand each condition the files that it may open, and no others: the model and all that stands in its place
without knowing the clip never see a label, and nothing but scoring sees a test caption. So it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["model", "null", "control", "ablation", "ceiling"]
KINDS: dict[Kind, str] = {
    "model": "the decoder",
    "null": "knows nothing of the trial's clip: a model that is no better has decoded nothing",
    "control": "knows something of the clip without describing it, or decodes it in a simpler way",
    "ablation": "the model trained in another way",
    "ceiling": "saw the video",
}


@dataclass(frozen=True)
class Condition:
    """A condition.

    Attributes:
        title: as tables name it.
        kind: see `KINDS`.
        what: what it is, a clause that follows the title.
        reads: what its decoding is handed beside the trial indices: names of inputs of the rule `decode`.
        variant: training whose weights decode it.
        tokens: which fMRI tokens it is decoded from; those of the training's encoder if empty.
    """

    title: str
    kind: Kind
    what: str
    reads: frozenset[str]
    variant: str = "model"
    tokens: str = ""


LLM = frozenset({"llm", "stage2"})
BRAIN = LLM | {"tokens"}
CAPTIONS = frozenset({"source_captions"})
BEST = frozenset({"best_captions"})

CONDITIONS: dict[str, Condition] = {
    "model": Condition("model", "model", "the decoder", BRAIN),
    "llm": Condition("LLM without brain", "null", "the same prompt, without fMRI tokens", frozenset({"llm"})),
    "mean": Condition("mean token", "null", "the mean of the subject's fMRI tokens, for every trial", BRAIN),
    "noise": Condition(
        "noise at test",
        "null",
        "Gaussian windows with the mean and covariance of the subject's, through the trained encoder",
        BRAIN,
        tokens="noisetest",
    ),
    "noisetrained": Condition(
        "noise at training and test",
        "null",
        "the same, through an encoder and a bridge that were trained on such noise",
        BRAIN,
        "noise",
    ),
    "shuffled": Condition("shuffled trials", "null", "the fMRI of another trial of the subject", BRAIN),
    "shuffledruns": Condition(
        "shuffled across runs", "null", "the fMRI of a trial in another run of the subject", BRAIN | {"adapt_tokens"}
    ),
    "wrongsubject": Condition("wrong subject", "null", "the fMRI of another target subject who saw another clip", BRAIN | {"test_labels"}),
    "constant": Condition(
        "constant caption", "null", "the source caption of the same instruction that scores best against all others", BEST
    ),
    "random": Condition("random caption", "null", "a random source caption of the same instruction", CAPTIONS),
    "shuffledclass": Condition("shuffled within class", "control", "the fMRI of another trial of the same action", BRAIN | {"test_labels"}),
    "trueclass": Condition("true class", "control", "the best constant caption of the clip's true action", BEST | {"test_labels"}),
    "predictedclass": Condition(
        "predicted class",
        "control",
        "the best constant caption of the action that a classifier of the fMRI tokens predicts",
        BEST | CAPTIONS | {"source_labels", "tokens", "train_tokens"},
    ),
    "nearest": Condition(
        "nearest source trial",
        "control",
        "the caption of the source trial with the most similar fMRI tokens",
        CAPTIONS | {"tokens", "train_tokens"},
    ),
    "ridge": Condition(
        "ridge regression",
        "control",
        "video tokens predicted linearly from BOLD, through the same LLM",
        LLM | {"series", "source_series", "source_labels", "source_features"},
    ),
    "untrained": Condition("untrained encoder", "ablation", "an encoder as Stage I finds it", BRAIN, "untrained"),
    "noadaptation": Condition("no adaptation", "ablation", "Stage II without both adaptation losses", BRAIN, "none"),
    "clusteringonly": Condition("neighbourhood clustering only", "ablation", "Stage II without entropy separation", BRAIN, "nc"),
    "separationonly": Condition("entropy separation only", "ablation", "Stage II without neighbourhood clustering", BRAIN, "es"),
    "bothadaptation": Condition("both adaptation losses", "ablation", "Stage II with both adaptation losses", BRAIN, "both"),
    "captioner": Condition(
        "captioner again", "ceiling", "the captioner's answer from the video under another seed, sampled", frozenset({"captions_again"})
    ),
    "human": Condition("description in the data", "ceiling", "what the data set itself says of the clip", frozenset({"test_labels"})),
}
NULLS = tuple(name for name, condition in CONDITIONS.items() if condition.kind == "null")
ADAPTATIONS = {"none": "noadaptation", "nc": "clusteringonly", "es": "separationonly", "both": "bothadaptation"}
# Trainings and tokens whose windows are noise in place of fMRI; `noisetest`: through the encoder that the model has.
NOISY = ("noise", "noisetest")
# Which training's encoder reads the fMRI of a training's Stage II, and of tokens that no training has.
ENCODERS = {"model": "model", "noise": "noise", "untrained": "untrained", "noisetest": "model", **dict.fromkeys(ADAPTATIONS, "model")}
# Which fMRI tokens each condition is decoded from.
TOKENS = {name: condition.tokens or ENCODERS[condition.variant] for name, condition in CONDITIONS.items()}


@dataclass(frozen=True)
class Needed:
    """What the conditions of a data set are made from.

    Attributes:
        stage1, stage2: variants that are trained.
        tokens: variant and role of the fMRI tokens.
        noise: roles of the trials whose noise is drawn.
        reads: inputs that any of them reads.
    """

    stage1: tuple[str, ...]
    stage2: tuple[str, ...]
    tokens: tuple[tuple[str, str], ...]
    noise: frozenset[str]
    reads: frozenset[str]


def needed(conditions: Iterable[str]) -> Needed:
    """What conditions, of which the model is one, are made from."""
    chosen = [CONDITIONS[name] for name in conditions]
    reads = frozenset().union(*(condition.reads for condition in chosen))
    stage2 = tuple(dict.fromkeys(c.variant for c in chosen if "stage2" in c.reads))
    tokens = {(ENCODERS[variant], role) for variant in stage2 for role in ("train", "adapt")}
    tokens |= {(c.tokens or ENCODERS[c.variant], "test") for c in chosen if "tokens" in c.reads}
    stage1 = tuple(dict.fromkeys(ENCODERS[variant] for variant, _ in sorted(tokens)))
    return Needed(stage1, stage2, tuple(sorted(tokens)), frozenset(role for variant, role in tokens if variant in NOISY), reads)
