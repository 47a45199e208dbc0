"""Caption the clips of a shard: one answer to each record's instruction. Run by hand: `python -m workflow_scripts.captions --help`."""

from boldscribe.models import share_llm
from boldscribe.workflow import Config, Inputs, Output, program

SETTINGS = {
    "video_llama": (
        "captioner.hub_name captioner.kind captioner.revision seed video_llama.batch_size video_llama.connectors "
        "video_llama.do_sample video_llama.dtype video_llama.llm video_llama.max_new_tokens video_llama.prompt "
        "video_llama.q_former.hidden_size video_llama.q_former.n_heads video_llama.q_former.n_queries "
        "video_llama.q_former.video_layers video_llama.stop video_llama.temperature video_llama.top_p"
    ),
    "video_text": (
        "captioner.batch_size captioner.dtype captioner.frames_as captioner.hub_name captioner.kind captioner.model "
        "captioner.revision seed video_llama.do_sample video_llama.max_new_tokens video_llama.temperature video_llama.top_p"
    ),
    "given": (
        "captioner.hub_name captioner.kind captioner.revision datasets.*.adapter datasets.*.description_file datasets.*.fold_of "
        "datasets.*.stimulus_manifest seed stimuli.shards"
    ),
}
BY = "captioner.kind"  # which of them


@program("captions", settings=SETTINGS, by=BY, share=share_llm)
def main(
    config: Config,
    dataset: str,
    split: str,
    shard: str,
    trials: Inputs,
    labels: Inputs,
    descriptions: Inputs,
    clips: Inputs,
    models: Inputs,
    captions: Output,
) -> None:
    """Caption the clips of a shard: one answer to each record's instruction, or the data set's own description."""
    if config.captioner.kind == "given":
        from boldscribe.stimuli.given_captions import write_given_captions

        write_given_captions(config, dataset, split, int(shard), trials=trials, labels=labels, output=captions)
        return
    from boldscribe.stimuli.captions import write_captions

    write_captions(
        config,
        trials=trials,
        labels=labels,
        clips=clips[0],
        models_dir=models[0].parent,
        output=captions,
    )


if __name__ == "__main__":
    main()
