"""Provide a model as a folder of safetensors. Run by hand: `python -m workflow_scripts.fetch_model --help`."""

from boldscribe.config import Config
from boldscribe.content_cache import ContentCache
from boldscribe.provenance.program import Files, program

INPUTS: dict[str, str] = {}
OUTPUTS = {"model": "folder of the model"}


@program("fetch_model", inputs=INPUTS, outputs=OUTPUTS, wildcards=("asset",), network=True, cache=True)
def main(config: Config, inputs: Files, outputs: Files, asset: str, cache: ContentCache | None) -> None:
    """Provide a model as a folder of safetensors."""
    from boldscribe.models.asset_folders import provide

    inputs.use("source", provide(config, asset, outputs.one("model"), cache))


if __name__ == "__main__":
    main()
