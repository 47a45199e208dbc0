"""Conditions: the model and everything that it is compared with (docs/controls.md): what each is, reads, and can show.

Rules read this table to pass each condition only the files that it may open. The model, and everything that replaces it without
knowing the clip, never see a label; only scoring sees a test caption. The module therefore imports nothing heavy.
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


Data = Literal["fmri", "noise"]


@dataclass(frozen=True)
class Condition:
    """A condition: one row of the table `CONDITIONS`.

    Attributes:
        title: name in tables.
        kind: see `KINDS`.
        what: description, a clause that follows the title.
        writer: function that writes its texts, in a module of `boldscribe.decoding` (`decode.writer`).
        reads: inputs of its decoding besides the trial indices, by their names in the rule `decode`.
        encoder: Stage I training run whose encoder made the fMRI tokens.
        bridge: Stage II training run whose bridge maps them: with the model's adaptation losses, or those that it is named after.
        data: input of the encoder at test: fMRI, or noise instead. In training, the encoder `noise` is given noise.
    """

    title: str
    kind: Kind
    what: str
    writer: str
    reads: frozenset[str]
    encoder: str = "model"
    bridge: str = "model"
    data: Data = "fmri"


LLM = frozenset({"llm", "stage2"})
BRAIN = LLM | {"tokens"}
CAPTIONS = frozenset({"source_captions"})
BEST = frozenset({"best_captions"})

CONDITIONS: dict[str, Condition] = {
    "model": Condition("model", "model", "the decoder", "brain.own_tokens", BRAIN),
    "llm": Condition("LLM without brain", "null", "the same prompt, without fMRI tokens", "brain.no_tokens", frozenset({"llm"})),
    "mean": Condition("mean token", "null", "the mean of the subject's fMRI tokens, for every trial", "brain.mean_token", BRAIN),
    "noise": Condition(
        "noise at test",
        "null",
        "Gaussian windows with the mean and covariance of the subject's, through the trained encoder",
        "brain.own_tokens",
        BRAIN,
        data="noise",
    ),
    "noisetrained": Condition(
        "noise at training and test",
        "null",
        "the same, through an encoder and a bridge that were trained on such noise",
        "brain.own_tokens",
        BRAIN,
        encoder="noise",
        bridge="noise",
        data="noise",
    ),
    "shuffled": Condition("shuffled trials", "null", "the fMRI of another trial of the subject", "brain.shuffled", BRAIN),
    "shuffledruns": Condition(
        "shuffled across runs", "null", "the fMRI of a trial in another run of the subject", "brain.shuffled_runs", BRAIN | {"adapt_tokens"}
    ),
    "wrongsubject": Condition(
        "wrong subject",
        "null",
        "the fMRI of another target subject who saw another clip",
        "brain.wrong_subject",
        BRAIN | {"test_labels"},
    ),
    "constant": Condition(
        "constant caption",
        "null",
        "the source caption of the same instruction that scores best against all others",
        "chosen_captions.constant",
        BEST,
    ),
    "random": Condition(
        "random caption", "null", "a random source caption of the same instruction", "chosen_captions.random_caption", CAPTIONS
    ),
    "shuffledclass": Condition(
        "shuffled within class",
        "control",
        "the fMRI of another trial of the same action",
        "brain.shuffled_class",
        BRAIN | {"test_labels"},
    ),
    "trueclass": Condition(
        "true class", "control", "the best constant caption of the clip's true action", "chosen_captions.true_class", BEST | {"test_labels"}
    ),
    "predictedclass": Condition(
        "predicted class",
        "control",
        "the best constant caption of the action that a classifier of the fMRI tokens predicts",
        "chosen_captions.predicted_class",
        BEST | CAPTIONS | {"source_labels", "tokens", "train_tokens"},
    ),
    "nearest": Condition(
        "nearest source trial",
        "control",
        "the caption of the source trial with the most similar fMRI tokens",
        "chosen_captions.nearest",
        CAPTIONS | {"tokens", "train_tokens"},
    ),
    "ridge": Condition(
        "ridge regression",
        "control",
        "video tokens predicted linearly from BOLD, through the same LLM",
        "ridge.linear",
        LLM | {"series", "source_series", "source_labels", "source_features"},
    ),
    "untrained": Condition(
        "untrained encoder",
        "ablation",
        "an encoder as Stage I finds it",
        "brain.own_tokens",
        BRAIN,
        encoder="untrained",
        bridge="untrained",
    ),
    "noadaptation": Condition(
        "no adaptation", "ablation", "Stage II without both adaptation losses", "brain.own_tokens", BRAIN, bridge="none"
    ),
    "clusteringonly": Condition(
        "neighbourhood clustering only", "ablation", "Stage II without entropy separation", "brain.own_tokens", BRAIN, bridge="nc"
    ),
    "separationonly": Condition(
        "entropy separation only", "ablation", "Stage II without neighbourhood clustering", "brain.own_tokens", BRAIN, bridge="es"
    ),
    "bothadaptation": Condition(
        "both adaptation losses", "ablation", "Stage II with both adaptation losses", "brain.own_tokens", BRAIN, bridge="both"
    ),
    "captioner": Condition(
        "captioner again",
        "ceiling",
        "the captioner's answer from the video under another seed, sampled",
        "chosen_captions.captioned_again",
        frozenset({"captions_again"}),
    ),
    "human": Condition(
        "description in the data",
        "ceiling",
        "what the data set itself says of the clip",
        "chosen_captions.described",
        frozenset({"test_labels"}),
    ),
}
NULLS = tuple(name for name, condition in CONDITIONS.items() if condition.kind == "null")
ADAPTATIONS = ("none", "nc", "es", "both")  # adaptation losses of Stage II (`stage2.adaptation`), and the bridges trained with them
# The encoder whose tokens each bridge is trained on, and the data that each encoder is trained on.
ENCODER_OF = {c.bridge: c.encoder for c in CONDITIONS.values() if "stage2" in c.reads}
DATA_OF: dict[str, Data] = {"model": "fmri", **{c.encoder: c.data for c in CONDITIONS.values() if c.encoder != "model"}}


@dataclass(frozen=True)
class Needed:
    """Artefacts that the conditions of a data set require.

    Attributes:
        encoders, bridges: to be trained.
        tokens: encoder, data and role of the fMRI tokens.
        noise: roles of the trials for which noise is drawn.
        reads: inputs that any condition reads.
    """

    encoders: tuple[str, ...]
    bridges: tuple[str, ...]
    tokens: tuple[tuple[str, Data, str], ...]
    noise: frozenset[str]
    reads: frozenset[str]


def needed(conditions: Iterable[str]) -> Needed:
    """Return what the given conditions, including the model, require."""
    chosen = [CONDITIONS[name] for name in conditions]
    reads = frozenset().union(*(condition.reads for condition in chosen))
    bridges = tuple(dict.fromkeys(c.bridge for c in chosen if "stage2" in c.reads))
    trained = {ENCODER_OF[bridge] for bridge in bridges}
    tokens = {(encoder, DATA_OF[encoder], role) for encoder in trained for role in ("train", "adapt")}
    tokens |= {(c.encoder, c.data, "test") for c in chosen if "tokens" in c.reads}
    encoders = tuple(dict.fromkeys(encoder for encoder, _, _ in sorted(tokens)))
    return Needed(encoders, bridges, tuple(sorted(tokens)), frozenset(role for _, data, role in tokens if data == "noise"), reads)
