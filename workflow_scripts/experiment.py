"""Write the merged, validated configuration that every step reads: `python workflow_scripts/experiment.py JSON OUTPUT`."""

import json
import sys

import yaml

from boldscribe.config import parse_config
from boldscribe.files import atomic


def main(settings: str, output: str) -> None:
    """Validate once more and write as YAML."""
    config = parse_config(json.loads(settings))
    with atomic(output) as part:
        part.write_text(yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
