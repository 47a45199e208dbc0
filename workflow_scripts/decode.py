"""Decode the target subjects' test trials under one condition. Run by hand: `python -m workflow_scripts.decode --help`."""

from boldscribe.models import share_llm
from boldscribe.workflow import Config, Inputs, Output, program

INPUTS = (
    "trials tokens adapt_tokens train_tokens stage2 models series voxels source_series source_voxels source_trials source_labels "
    "source_captions best_captions source_features test_labels captions_again"
)
SETTINGS = (
    "datasets.*.description_column datasets.*.train_subjects datasets.*.validation_subjects decoding.batch_size decoding.max_new_tokens "
    "seed video_llama.connectors video_llama.dtype video_llama.llm video_llama.prompt video_llama.q_former.hidden_size "
    "video_llama.q_former.n_heads video_llama.q_former.n_queries video_llama.q_former.video_layers video_llama.stop"
)


@program("decode", settings=SETTINGS, inputs=INPUTS, shut=True, share=share_llm)
def main(config: Config, dataset: str, condition: str, decoded: Output, **inputs: Inputs) -> None:
    """Decode the target subjects' test trials under one condition."""
    from boldscribe.decoding.decode import Task, decode

    files = {name: paths for name, paths in inputs.items() if paths}
    decode(Task(config, dataset, condition, inputs["trials"], files), decoded)


if __name__ == "__main__":
    main()
