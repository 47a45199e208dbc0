"""Provide a model as a folder of safetensors. Run by hand: `python -m workflow_scripts.fetch_model --help`."""

from boldscribe.machinery.content_cache import ContentCache
from boldscribe.workflow import Config, Files, Output, program

SETTINGS = {
    "bertscore_encoder": "evaluation.bertscore_layer evaluation.bertscore_model",
    "captioner": "captioner.model captioner.revision",
    "connectors": "video_llama.connectors",
    "llm": "video_llama.llm",
    "sc_mbm": "sc_mbm.checkpoint sc_mbm.depth sc_mbm.dim sc_mbm.mlp_ratio",
    "sentence_encoder": "evaluation.sentence_encoder",
    "visual_encoder": "video_llama.visual_encoder",
}
BY = "asset"  # which of them


@program("fetch_model", settings=SETTINGS, by=BY, network=True)
def main(config: Config, asset: str, model: Output, cache: ContentCache | None, files: Files) -> None:
    """Provide a model as a folder of safetensors."""
    from boldscribe.models.asset_folders import provide

    files.use("source", provide(config, asset, model, cache))


if __name__ == "__main__":
    main()
