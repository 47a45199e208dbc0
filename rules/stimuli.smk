"""Stimulus videos to frames and frozen features. `train` shards hold the clips of source subjects, `test` shards those of
target subjects' test runs; adaptation runs add no clip to any shard.

Pseudo-captions are answers of Video-LLaMA, or of another video-text model, to each record's instruction (docs/captioners.md). The miniature
Video-LLaMA's connectors are committed, so no table needs their training; `make connectors` runs it.
"""


use rule step as frames with:
    """Extract T uniformly spaced RGB frames of each clip of a shard."""
    input:
        script=ancient("workflow_scripts/frames.py"),
        raw=raw_stimuli,
        trials=of_split(TRIALS),
        labels=of_split(LABELS),
    output:
        frames=f"{R}/stimuli/{{dataset}}/{{split}}-{{shard}}_frames.npy",
    log:
        f"{R}/logs/frames/{{dataset}}_{{split}}-{{shard}}.log",
    threads: CORES
    resources:
        mem_mb=memory(4000, 1000),
        runtime=minutes(120, 30),
    conda:
        "../envs/models.yaml"
    message:
        "Extract frames of {wildcards.dataset}, {wildcards.split} shard {wildcards.shard}"


use rule step as video_features with:
    """Encode frames with the frozen visual encoder and image Q-Former, once for Stage I and the captioner."""
    input:
        script=ancient("workflow_scripts/video_features.py"),
        frames=rules.frames.output.frames,
        models=models("visual_encoder", "connectors"),
    output:
        features=f"{R}/stimuli/{{dataset}}/{{split}}-{{shard}}_features.npy",
    log:
        f"{R}/logs/video_features/{{dataset}}_{{split}}-{{shard}}.log",
    threads: CORES
    resources:
        **on_gpus(),
        mem_mb=memory(32000, 2500),
        runtime=minutes(120, 30),
    conda:
        "../envs/models.yaml"
    message:
        "Encode the frames of {wildcards.dataset}, {wildcards.split} shard {wildcards.shard}"


use rule step as captions with:
    """Caption the clips of a shard: one answer to each record's instruction, or the data set's own description."""
    input:
        script=ancient("workflow_scripts/captions.py"),
        trials=of_split(TRIALS),
        labels=of_split(LABELS),
        descriptions=given_descriptions,
        clips=[f"{R}/stimuli/{{dataset}}/{{split}}-{{shard}}_{kind}.npy" for kind in CAPTIONED],
        models=models(*CAPTIONER),
    output:
        captions=f"{R}/stimuli/{{dataset}}/{{split}}-{{shard}}_captions.parquet",
    log:
        f"{R}/logs/captions/{{dataset}}_{{split}}-{{shard}}.log",
    threads: CAPTION_THREADS
    resources:
        **CAPTION_GPUS,
        mem_mb=CAPTION_MEMORY,
        runtime=minutes(240, 60),
    conda:
        "../envs/models.yaml"
    message:
        "Caption the clips of {wildcards.dataset}, {wildcards.split} shard {wildcards.shard}"


use rule step as train_connectors with:
    """Train Q-Formers and projection between the frozen visual encoder and the frozen LLM on rendered clips that no data set uses."""
    input:
        script=ancient("workflow_scripts/train_connectors.py"),
        models=models("llm", "visual_encoder", "sentence_encoder"),
    output:
        folder=directory(f"{R}/connectors"),
    log:
        f"{R}/logs/train_connectors.log",
    resources:
        mem_mb=memory(8000, 4000),
        runtime=minutes(240, 60),
    conda:
        "../envs/models.yaml"
    message:
        "Train the connectors of the miniature Video-LLaMA"
