"""The sections of the configuration, in the order of the pipeline: every key with its meaning, unit and source.

The defaults are the paper's experiment. Sources: "paper x.y" is a section of Zheng & Sun 2024; "survey 8" is the table of
well-founded defaults for what the paper omits, with the package each value comes from; "ours" is our own choice.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
PLACEHOLDER, QUESTION = "<ImageHere>", "{instruction}"  # of the prompt template


def key(default: Any, description: str, source: str, **constraints: Any) -> Any:
    """A configuration key: its default, what it means (with unit) and where the value comes from."""
    extra: dict[str, Any] = {"source": source}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: default, description=description, json_schema_extra=extra, **constraints)
    return Field(default, description=description, json_schema_extra=extra, **constraints)


class Section(BaseModel):
    """A group of keys: immutable, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SimulatedDesign(Section):
    """A raw BIDS data set that the simulator writes in place of a measured one."""

    subjects: int = key(6, "number of subjects", "ours", ge=2)
    runs: int = key(2, "runs per subject", "ours", ge=2)
    trials_per_run: int = key(48, "trials per run", "ours", ge=1)
    shared_clips: bool = key(
        False, "all subjects see the same clips (as in Urgen); else each clip is seen by one subject (as in HAD)", "ours"
    )


class Dataset(Section):
    """A BIDS data set and its split into source and target subjects."""

    title: str = key("", "name printed in tables", "ours")
    table: int = key(1, "number of the paper's table that this data set fills", "paper 4.2")
    bids_dir: str = key("", "raw BIDS data set; simulated data are always written to RESULTS/raw/NAME", "ours")
    derivatives_dir: str | None = key(None, "ready fMRIPrep derivatives, used when preprocessing.engine is 'derivatives'", "ours")
    simulated: SimulatedDesign | None = key(None, "simulate this data set; null for measured data", "ours")
    task: Label = key("action", "BIDS task label", "survey 5")
    session: Label | None = key(None, "BIDS session label, if the data set has sessions", "survey 5")
    train_subjects: list[Label] = key([], "source subjects (labels without 'sub-')", "paper 4.1")
    validation_subjects: list[Label] = key([], "target subjects, never trained on with labels", "paper 4.1")
    adaptation_runs: list[Label] = key([], "runs of target subjects whose unlabelled fMRI adapts the model", "survey 8")
    test_runs: list[Label] = key([], "runs of target subjects that are decoded and scored", "survey 8")

    @property
    def run_entities(self) -> tuple[str, ...]:
        """Entities that tell runs apart beside `run`: none, since the split names runs by their number."""
        return ()

    @field_validator("adaptation_runs", "test_runs")
    @classmethod
    def _two_digits(cls, runs: list[str]) -> list[str]:
        """Runs are compared by number: `1` and `01` are one run."""
        return [f"{int(r):02d}" if r.isdigit() else r for r in runs]

    @model_validator(mode="after")
    def _check_split(self) -> Dataset:
        for name in ("train_subjects", "validation_subjects", "adaptation_runs", "test_runs"):
            labels = getattr(self, name)
            if repeated := sorted({x for x in labels if labels.count(x) > 1}):
                raise ValueError(f"{name} names {', '.join(repeated)} twice")
        if both := sorted(set(self.train_subjects) & set(self.validation_subjects)):
            raise ValueError(
                f"subject(s) {', '.join(both)} in train_subjects and in validation_subjects: "
                "a target subject must not be trained on; remove from one"
            )
        if both := sorted(set(self.adaptation_runs) & set(self.test_runs)):
            raise ValueError(f"run(s) {', '.join(both)} in adaptation_runs and in test_runs: test trials must be unseen; remove from one")
        return self


class PretrainingSet(Section):
    """Ready BIDS-Derivatives of people who are in no table, on whose BOLD SC-MBM is pretrained too."""

    derivatives_dir: str = key(..., "root of the derivatives, in the configured space and resolution", "paper 3.1: HCP")
    task: Label = key("rest", "BIDS task label", "survey 1: MinD-Vis")
    session: Label | None = key(None, "BIDS session label, if the data set has sessions", "ours")
    subjects: list[Label] = key(..., "subjects (labels without 'sub-')", "ours", min_length=1)
    seconds_per_volume: float | None = key(
        None,
        "runs that are sampled faster are averaged to this time step (s), as of HCP's 0.72 s; null takes them as sampled",
        "ours; MinD-Vis averages 8 s, its whole window",
        gt=0,
    )

    @property
    def run_entities(self) -> tuple[str, ...]:
        """Entities that tell runs apart beside `run`: HCP has each of its runs in two phase directions."""
        return ("acquisition", "direction")


class Simulation(Section):
    """Simulated BOLD, common to all simulated data sets."""

    snr: float = key(1.0, "amplitude of the clip responses relative to the default; 0 gives BOLD without any signal", "ours", ge=0)
    repetition_time: float = key(2.0, "TR (s)", "survey 5: HAD", gt=0)
    stimulus_onset_asynchrony: float = key(6.0, "time between clip onsets (s)", "ours", gt=0)
    voxel_size: float = key(4.5, "BOLD voxel edge in scanner space (mm)", "ours", gt=0)
    t1w_voxel_size: float = key(2.0, "T1w voxel edge (mm)", "ours", gt=0)
    clip_seconds: float = key(2.0, "length of a rendered clip (s)", "survey 5: HAD", gt=0)
    clip_fps: int = key(8, "frames per second of a rendered clip", "ours", ge=1)
    clip_size: int = key(224, "edge of a rendered frame (pixels)", "ours", ge=32)


class Preprocessing(Section):
    """Raw BIDS to BIDS-Derivatives."""

    engine: Literal["fmriprep-docker", "derivatives", "embedded"] = key(
        "fmriprep-docker", "fMRIPrep through its docker wrapper, ready derivatives, or the embedded nipype workflow (no container)", "ours"
    )
    space: str = key(
        "MNI152NLin2009cAsym", "template space label; the embedded workflow writes MNI152NLin2009aSym", "paper 3.1: whole brain; survey 8"
    )
    resolution: float = key(2.0, "edge of the isotropic voxels in template space (mm)", "survey 8", gt=0)
    fmriprep_image: str = key("nipreps/fmriprep:25.2.7", "fMRIPrep image", "ours")
    freesurfer_license: str | None = key(None, "FreeSurfer licence file for fMRIPrep; null reads the FS_LICENSE variable", "ours")


class Bold(Section):
    """Preprocessed BOLD to cleaned series and trial windows."""

    delay: float = key(4.0, "time from clip onset to the first volume of the window (s): the lag of the HRF", "survey 8")
    n_volumes: int = key(3, "volumes per trial window", "paper 3.1: several volumes; survey 8", ge=1)
    motion: Literal["basic", "power2", "derivatives", "full"] = key("basic", "motion regressors (nilearn load_confounds)", "survey 8")
    tissue: Literal["basic", "power2", "derivatives", "full"] | None = key(
        "basic", "white-matter and CSF regressors (nilearn load_confounds); null for none", "survey 8"
    )
    smoothing_fwhm: float = key(
        0.0, "FWHM of spatial smoothing inside the brain mask, before cleaning (mm); 0 for none", "ours; the paper mentions none", ge=0
    )
    framewise_displacement: float = key(0.5, "volumes above are flagged, never dropped (mm)", "survey 8", gt=0)
    clip_sigma: float = key(10.0, "z-scored BOLD is clipped at this value (SD)", "survey 8", gt=0)


class Stimuli(Section):
    """Videos to frames."""

    reader: Literal["decord", "pyav"] = key("decord", "video reader; PyAV takes over where decord fails", "survey 2: Video-LLaMA")
    n_frames: int = key(8, "uniformly spaced frames per clip", "survey 2: Video-LLaMA", ge=1, le=32)
    size: int = key(224, "edge of a frame (pixels)", "survey 2: Video-LLaMA", ge=32)
    shards: int = key(64, "jobs that the clips of a data set are divided into", "ours", ge=1)


class QFormer(Section):
    """Widths of the image and the video Q-Former."""

    n_queries: int = key(32, "learned query tokens, L", "paper 3.1", ge=1)
    hidden_size: int = key(768, "width of the tokens, d", "survey 2: Video-LLaMA", ge=1)
    image_layers: int = key(12, "layers of the image Q-Former", "survey 2: Video-LLaMA", ge=1)
    video_layers: int = key(2, "layers of the video Q-Former", "survey 2: Video-LLaMA", ge=1)
    n_heads: int = key(12, "attention heads", "survey 2: Video-LLaMA", ge=1)

    @model_validator(mode="after")
    def _check_heads(self) -> QFormer:
        if self.hidden_size % self.n_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by n_heads {self.n_heads}")
        return self


class VideoLlama(Section):
    """The frozen video-language model: it captions the clips, and its LLM decodes the brain."""

    llm: str = key(
        "models/video-llama-2-7b/llm",
        "folder of the language model (safetensors); 'embedded' is SmolLM2-135M-Instruct",
        "paper 3.1: LLaMA; survey 8",
    )
    visual_encoder: str = key(
        "models/video-llama-2-7b/visual_encoder",
        "folder of the visual encoder; 'embedded' is EfficientNet-Lite0",
        "survey 2: EVA-CLIP g/14",
    )
    q_former: QFormer = Field(default_factory=QFormer)
    connectors: str = key("models/video-llama-2-7b/connectors.safetensors", "trained Q-Formers and projection", "survey 2: Video-LLaMA")
    dtype: Literal["float32", "bfloat16"] = key("bfloat16", "precision of the LLM", "survey 8")
    prompt: str = key(
        "[INST] <<SYS>>\nYou are able to understand the visual content that the user provides. Follow the instructions carefully and "
        "explain your answers in detail.\n<</SYS>>\n\n<Video><ImageHere></Video> {instruction} [/INST]",
        "prompt template; <ImageHere> is replaced by the L tokens; docs/weights.md has Vicuna's",
        "survey 2: Video-LLaMA, without its sentence on the times of the frames, which fMRI has not",
    )
    instructions: list[str] = key(
        [
            "What is the main thing happening in the video?",
            "Describe the video.",
            "What do you notice in the video?",
            "What is going on in this video?",
            "Give a description of the video.",
        ],
        "each fMRI record is assigned one at random",
        "paper 3.2 and 4.2; survey 8",
        min_length=1,
    )
    stop: list[list[int]] = key(
        [],
        "sequences of token ids that end an answer, beside the tokenizer's end token; Vicuna: [[835], [2277, 29937]]",
        "survey 2: Video-LLaMA",
    )
    do_sample: bool = key(True, "sample the pseudo-captions", "survey 2: Video-LLaMA")
    temperature: float = key(1.0, "sampling temperature of the pseudo-captions", "survey 2: Video-LLaMA", gt=0)
    top_p: float = key(0.9, "nucleus of the pseudo-captions", "survey 2: Video-LLaMA", gt=0, le=1)
    max_new_tokens: int = key(300, "longest pseudo-caption (tokens)", "survey 2: Video-LLaMA", ge=1)
    batch_size: int = key(128, "clips per batch", "ours: 7B and its cache take 40 GB", ge=1)

    @model_validator(mode="after")
    def _check_prompt(self) -> VideoLlama:
        if self.prompt.count(PLACEHOLDER) != 1 or QUESTION not in self.prompt:
            raise ValueError(f"prompt: expected one {PLACEHOLDER} and {QUESTION}, found {self.prompt!r}")
        return self


class Captioner(Section):
    """Which model writes the pseudo-captions that Stage II learns and the references that texts are scored against (docs/captioners.md)."""

    kind: Literal["video_llama", "video_text"] = key(
        "video_llama", "Video-LLaMA as configured in video_llama, or another video-text model that transformers has", "paper 3.2"
    )
    alignment_target: Literal["video_llama"] = key(
        "video_llama",
        "whose video tokens x Stage I aligns fMRI with, and whose LLM decodes: Video-LLaMA's, whatever model captions, since others have "
        "no L x d tokens of a Q-Former; Stage II then teaches the bridge to say through Video-LLaMA's LLM what the other model wrote",
        "paper 3.2; survey 2",
    )
    model: str | None = key(None, "video_text: folder of the model as its hub has it (safetensors, tokenizer, processor)", "ours")
    hub_name: str | None = key(None, "video_text: its name on the hub, OWNER/NAME", "ours")
    revision: str | None = key(None, "video_text: commit of hub_name, 40 hexadecimal digits", "ours", pattern="^[0-9a-f]{40}$")
    frames_as: Literal["video", "images"] = key(
        "video",
        "video_text: hand the frames over as a video with its times, which needs torchvision, or as a sequence of images without times",
        "ours",
    )
    dtype: Literal["float32", "bfloat16"] = key("bfloat16", "video_text: precision; that of Video-LLaMA is video_llama.dtype", "ours")
    batch_size: int = key(8, "video_text: clips per batch; that of Video-LLaMA is video_llama.batch_size", "ours", ge=1)

    @model_validator(mode="after")
    def _check_origin(self) -> Captioner:
        absent = [name for name in ("model", "hub_name", "revision") if not getattr(self, name)]
        if self.kind == "video_text" and absent:
            raise ValueError(f"kind video_text needs {', '.join(absent)}: which model it is, and from which commit, must be said")
        return self

    @property
    def author(self) -> str:
        """Name of the model that writes the captions, with its revision."""
        return {"video_llama": "Video-LLaMA", "video_text": f"{self.hub_name} (revision {self.revision})"}[self.kind]


class Connectors(Section):
    """Training of the miniature Video-LLaMA's connectors on rendered clips that no data set uses."""

    n_clips: int = key(2500, "rendered training clips", "ours", ge=2)
    n_test_clips: int = key(240, "rendered clips, unseen in training, on which the captions are judged", "ours", ge=1)
    alignment_epochs: int = key(14, "epochs of video-text contrast without the LLM", "ours, after BLIP-2's first stage", ge=1)
    caption_epochs: int = key(2, "epochs of captioning through the frozen LLM", "ours, after BLIP-2's second stage", ge=1)
    batch_size: int = key(32, "clips per batch of the contrast", "ours", ge=2)
    caption_batch_size: int = key(8, "clips per batch of captioning", "ours", ge=1)
    learning_rate: float = key(3e-4, "AdamW; the projection learns ten times faster, the aligned Q-Formers three times slower", "ours")


class Tokenizer(Section):
    """3-D CNN: T volumes to super-voxel tokens."""

    grid: tuple[int, int, int] = key((96, 112, 96), "voxels that the template-space BOLD is cropped or padded to", "survey 8")
    channels: list[int] = key([64, 128, 256, 512], "channels of the stride-2 stages", "survey 8", min_length=1)
    token_maps: Literal["shared", "local"] = key(
        "shared",
        "map from the last stage to tokens: one for the whole brain, or one of its own for each super-voxel, which few trials need",
        "survey 8; ours",
    )

    @model_validator(mode="after")
    def _check_grid(self) -> Tokenizer:
        stride = 2 ** len(self.channels)
        if any(n % stride for n in self.grid):
            raise ValueError(
                f"grid {self.grid} is not divisible by {stride}, the stride of {len(self.channels)} stages; change grid or channels"
            )
        return self


class ScMbm(Section):
    """Sparse-coded masked brain modelling: the fMRI encoder and its pretraining."""

    checkpoint: str | None = key(
        None, "converted weights (docs/weights.md) from which the blocks start; null for random ones", "paper 3.1: pretrained on HCP"
    )
    dim: int = key(1024, "width", "survey 1: MinD-Vis", ge=1)
    depth: int = key(24, "blocks", "survey 1: MinD-Vis", ge=1)
    n_heads: int = key(16, "attention heads, of encoder and decoder", "survey 1: MinD-Vis", ge=1)
    mlp_ratio: float = key(1.0, "MLP width over dim", "survey 1: MinD-Vis", gt=0)
    decoder_dim: int = key(512, "width of the pretraining decoder", "survey 1: MinD-Vis", ge=1)
    decoder_depth: int = key(8, "blocks of the pretraining decoder", "survey 1: MinD-Vis", ge=1)
    mask_ratio: float = key(0.75, "share of masked tokens", "survey 1: MinD-Vis", gt=0, lt=1)
    epochs: int = key(500, "epochs of pretraining; 0 takes the blocks as the checkpoint has them", "survey 1: MinD-Vis", ge=0)
    warmup_epochs: int = key(40, "epochs of linear warm-up", "survey 1: MinD-Vis", ge=0)
    batch_size: int = key(100, "windows per batch", "survey 1: MinD-Vis", ge=1)
    learning_rate: float = key(2.5e-4, "AdamW (0.9, 0.95), cosine to 0", "survey 1: MinD-Vis", gt=0)
    weight_decay: float = key(0.05, "AdamW", "survey 1: MinD-Vis")
    grad_clip: float = key(0.8, "gradient norm", "survey 1: MinD-Vis", gt=0)

    @model_validator(mode="after")
    def _check_heads(self) -> ScMbm:
        if self.dim % self.n_heads or self.decoder_dim % self.n_heads:
            raise ValueError(f"dim {self.dim} and decoder_dim {self.decoder_dim} must be divisible by n_heads {self.n_heads}")
        return self


class Adaptor(Section):
    """The nonlinear low-rank adaptor (figure 2): query projection and MLP of SC-MBM and of the video Q-Former."""

    rank: int = key(16, "width of the bottleneck", "survey 8", ge=1)
    activation: Literal["gelu", "relu", "silu"] = key("gelu", "nonlinearity", "survey 8")
    scale: float = key(1.0, "factor of the adaptor's output", "survey 8")


class Stage1(Section):
    """Cross-modal alignment, L_Total = beta L_CLIP + (1 - beta) L_L2L1."""

    alpha: float = key(0.5, "weight of L1 against L2 (equation 2)", "survey 8", ge=0, le=1)
    beta: float = key(0.75, "weight of L_CLIP", "survey 8", ge=0, le=1)
    temperature: float = key(0.05, "initial temperature of L_CLIP", "paper 3.2", gt=0)
    learn_temperature: bool = key(True, "train the temperature", "paper 3.2")
    epochs: int = key(100, "longest training (epochs)", "survey 8", ge=1)
    patience: int = key(
        10, "epochs without better retrieval (of equal, better reconstruction) of held-out source trials before stopping", "survey 8", ge=1
    )
    holdout: float = key(0.1, "share of source clips held out, with all their trials, for early stopping", "survey 8", gt=0, lt=1)
    batch_size: int = key(128, "trials per optimiser step", "survey 8", ge=2)
    accumulate: int = key(
        1, "parts of a batch computed one after the other where memory is short; each is contrasted in itself", "ours", ge=1
    )
    learning_rate: float = key(3e-4, "peak of the one-cycle schedule, AdamW (0.9, 0.95)", "survey 8", gt=0)
    weight_decay: float = key(0.05, "AdamW", "survey 8")
    grad_clip: float = key(0.8, "gradient norm", "survey 1: MinD-Vis", gt=0)
    noise: float = key(0.0, "SD of Gaussian noise added to the z-scored input in training (SD)", "ours", ge=0)
    dropout: float = key(0.0, "dropout of fMRI tokens in training", "ours", ge=0, lt=1)


class Stage2(Section):
    """Instruction tuning with domain adaptation, lambda L_CE + (1 - lambda)(L_NC + L_ES)."""

    lambda_: float = key(0.95, "weight of the cross-entropy (equation 6)", "survey 3: DANCE", alias="lambda", ge=0, le=1)
    preset: Literal["paper", "dance"] = key(
        "paper", "reading of equations 4 and 5: as printed, or as the method's original code computes them (docs/method.md)", "survey 3"
    )
    nc_temperature: float | None = key(
        None, "temperature of neighbourhood clustering (equation 4); null for the preset's: 0.5 (paper) or 0.05 (dance)", "paper 3.2", gt=0
    )
    nc_live: bool = key(True, "compare target trials with those of their batch as they are, not as the bank remembers them", "survey 3 j")
    nc_weight: float = key(1.0, "weight of neighbourhood clustering", "survey 3 g", ge=0)
    es_weight: float = key(1.0, "weight of entropy separation", "survey 3 g", ge=0)
    es_margin: float = key(0.5, "m of entropy separation (equation 5)", "survey 3: DANCE", ge=0)
    es_threshold: float | None = key(None, "rho of entropy separation; null for log(C)/2", "survey 3: DANCE")
    adaptation: Literal["none", "nc", "es", "both"] = key("both", "which adaptation losses act", "paper 3.2")
    class_weight: float = key(
        1.0, "weight of the head's loss on source labels, without which its rows mean nothing; not in the paper", "survey 3 g", ge=0
    )
    memory_momentum: float = key(0.0, "share of the old feature kept in the memory bank", "survey 3: DANCE", ge=0, lt=1)
    steps: int = key(3000, "optimiser steps", "survey 8: Video-LLaMA", ge=1)
    warmup_steps: int = key(1000, "steps of linear warm-up", "survey 8: Video-LLaMA", ge=0)
    batch_size: int = key(4, "source trials per pass through the LLM", "survey 8", ge=1)
    accumulate: int = key(
        8, "passes per optimiser step, which takes batch_size x accumulate source and as many target trials", "survey 8", ge=1
    )
    learning_rate: float = key(3e-5, "peak, AdamW, cosine", "survey 8: Video-LLaMA", gt=0)
    min_learning_rate: float = key(1e-5, "end of the cosine", "survey 8: Video-LLaMA")
    weight_decay: float = key(0.05, "AdamW", "survey 8: Video-LLaMA")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Training(Section):
    """How pretraining, Stage I and Stage II are computed; what they compute stays the same but for rounding."""

    precision: Literal["float32", "bfloat16"] = key("bfloat16", "of the fMRI encoder's products, in training and encoding", "survey 8")
    compile: bool = key(True, "compile the fMRI encoder (torch.compile): minutes at the start, faster steps on a GPU", "ours")
    processes: int = key(1, "GPUs that share each training (torchrun)", "ours", ge=1)


class Decoding(Section):
    """Text from fMRI tokens and prompt alone."""

    controls: list[Literal["llm", "shuffled", "noise"]] = key(
        ["llm", "shuffled", "noise"],
        "conditions decoded beside the model: LLM without brain, trials shuffled within subject, noise matched in mean and covariance",
        "survey 6",
    )
    max_new_tokens: int = key(128, "longest answer (tokens)", "survey 8", ge=1)
    batch_size: int = key(128, "trials per batch", "ours: 7B and its cache take 30 GB", ge=1)

    @property
    def conditions(self) -> list[str]:
        """The model and its controls, in the order of the tables."""
        return ["model", *self.controls]

    @field_validator("controls")
    @classmethod
    def _check_controls(cls, controls: list[str]) -> list[str]:
        if len(set(controls)) < len(controls):
            raise ValueError(f"a control is named twice: {', '.join(controls)}")
        return controls


class Evaluation(Section):
    """Scores and their intervals."""

    bertscore_model: str = key("models/roberta-large", "folder of BERTScore's encoder; 'embedded' is MiniLM", "survey 8")
    bertscore_layer: int = key(17, "layer", "survey 8", ge=1)
    bertscore_baseline: str | None = key("models/roberta-large/baseline.tsv", "rescaling baseline; null leaves the scores raw", "survey 8")
    sentence_encoder: str = key(
        "models/all-MiniLM-L6-v2", "folder of the sentence encoder for identification; 'embedded' is MiniLM", "ours"
    )
    bootstrap_samples: int = key(10000, "resamples of trials for the 95% intervals", "survey 6", ge=100)


class Paths(Section):
    """Where results and models live."""

    results: str = key("results", "everything that is made", "ours")
