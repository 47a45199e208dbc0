"""The typed configuration: generated files do not drift, mistakes are refused in words."""

import re
from pathlib import Path

import pytest
import yaml

from boldscribe.config import Config, check_experiment
from boldscribe.config.config_files import generated_files
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.section import Section

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "profiles" / "demo" / "experiment.yaml"


@pytest.mark.parametrize("path", generated_files(ROOT), ids=lambda p: p.name)
def test_generated_files_equal_the_typed_configuration(path: Path) -> None:
    assert path.read_text() == generated_files(ROOT)[path], "run `boldscribe config --write`"


def test_config_yaml_gives_the_defaults_back() -> None:
    assert Config.load(ROOT / "config.yaml") == Config()


def _sections(section: Section) -> list[Section]:
    children = [v for name in type(section).model_fields if isinstance(v := getattr(section, name), Section)]
    return [section, *(s for child in children for s in _sections(child))]


def test_every_key_says_what_it_means_and_where_it_comes_from() -> None:
    config = Config()
    for section in [*_sections(config), *config.datasets.values()]:
        for name, field in type(section).model_fields.items():
            if isinstance(getattr(section, name), Section | dict):
                continue
            assert field.description, f"{type(section).__name__}.{name}"
            assert isinstance(field.json_schema_extra, dict) and field.json_schema_extra["source"], f"{type(section).__name__}.{name}"


def sources(section: Section, prefix: str = "") -> dict[str, list[str]]:
    """Each key, by its dotted name (of a data set `datasets.KEY`) → what its value is taken from."""
    found: dict[str, list[str]] = {}
    for name, field in type(section).model_fields.items():
        value, label = getattr(section, name), prefix + (field.alias or name)
        inner = list(value.values()) if isinstance(value, dict) else [value]
        if inner and isinstance(inner[0], Section):
            found |= {key: s for item in inner for key, s in sources(item, f"{label}.").items()}
        elif isinstance(field.json_schema_extra, dict):
            found[label] = str(field.json_schema_extra["source"]).split("; ")
    return found


def test_no_source_leads_nowhere() -> None:
    config = Config.parse(merge({}, {"pretraining": {"more": {"derivatives_dir": "data/more", "subjects": ["01"]}}}))
    headings = re.split(r"(?m)^## (.+)$", (ROOT / "docs" / "survey.md").read_text())[1:]
    cells = {name.lower(): re.findall(r"(?m)^\| (`[^|]+`) \|", rows) for name, rows in zip(headings[::2], headings[1::2], strict=True)}
    listed = {name: set(re.findall(r"`(.+?)`", " ".join(of_name))) for name, of_name in cells.items()}
    cited: dict[str, set[str]] = {}
    for key, of_key in sources(config).items():
        for name in (source.partition(":")[0] for source in of_key):
            if name != "ours" and not re.fullmatch(r"paper \d\.\d( and \d\.\d)?", name):
                cited.setdefault(name.lower(), set()).add(key)
    assert cited.keys() == listed.keys()
    for name, keys in cited.items():
        assert keys == listed[name], f"{name}: not in docs/survey.md, or not in the configuration: {sorted(keys ^ listed[name])}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stage1": {"alhpa": 0.5}}, ["stage1.alhpa", "unknown key"]),
        ({"stage1": {"alpha": 2}}, ["stage1.alpha", "found 2", "less than or equal to 1"]),
        ({"tokenizer": {"grid": [33, 40, 32]}}, ["tokenizer", "not divisible by 16"]),
        (
            {"datasets": {"had": {"train_subjects": ["01"], "validation_subjects": ["01"]}}},
            ["had", "01", "train_subjects and in validation_subjects"],
        ),
        ({"datasets": {"had": {"train_subjects": ["01; rm"]}}}, ["train_subjects", "01; rm", "pattern"]),
        ({"datasets": {"had": {"adaptation_runs": ["01"], "test_runs": ["01"]}}}, ["run(s) 01", "test trials must be unseen"]),
        ({"datasets": {"had": {"adaptation_runs": ["1"], "test_runs": ["01"]}}}, ["run(s) 01", "test trials must be unseen"]),
        ({"datasets": [1], "paths": "x"}, ["datasets", "paths"]),
        ({"sc_mbm": {"n_heads": 3}}, ["sc_mbm", "divisible by n_heads 3"]),
        ({"stimuli": {"n_frames": 64}}, ["stimuli.n_frames", "found 64"]),
        ({"video_llama": {"prompt": "{instruction}"}}, ["video_llama", "expected one <ImageHere>"]),
        ({"decoding": {"controls": ["llm", "llm"]}}, ["decoding.controls", "named twice"]),
        ({"sc_mbm": {"checkpoint": 7}}, ["sc_mbm.checkpoint", "7"]),
        ({"pretraining": {"hcp": {"derivatives_dir": "x", "subjects": []}}}, ["pretraining.hcp.subjects"]),
        ({"captioner": {"kind": "video_text"}}, ["captioner", "needs model, hub_name, revision"]),
        ({"captioner": {"revision": "main"}}, ["captioner.revision", "found 'main'", "pattern"]),
        ({"captioner": {"alignment_target": "qwen"}}, ["captioner.alignment_target", "found 'qwen'", "video_llama"]),
    ],
)
def test_a_mistake_is_named_with_key_and_value(change: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        Config.parse(change, "mine.yaml")
    for word in ["mine.yaml", *words]:
        assert word in str(caught.value)


def test_files_that_are_missing_or_not_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: the configuration file does not exist"):
        Config.load(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("seed: [1")
    with pytest.raises(UserError, match=r"broken\.yaml: not YAML"):
        Config.load(broken)


def test_the_demo_changes_values_only(tmp_path: Path) -> None:
    demo = Config.load(ROOT / "config.yaml", DEMO)
    assert demo.datasets["had"].bids_dir == "results/demo/raw/had", "simulated data are results"
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(yaml.safe_dump({"paths": {"results": "results/other"}}))
    assert Config.load(ROOT / "config.yaml", DEMO, elsewhere).datasets["urgen"].bids_dir == "results/other/raw/urgen"


def test_a_data_set_that_is_null_is_left_out(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("datasets: {had: null, mine: {bids_dir: somewhere}}")
    assert list(Config.load(ROOT / "config.yaml", mine).datasets) == ["urgen", "mine"]
    back = tmp_path / "back.yaml"
    back.write_text("datasets: {had: {title: again}}")
    assert Config.load(ROOT / "config.yaml", mine, back).datasets["had"].title == "again"
    with pytest.raises(UserError, match="datasets: found none"):
        check_experiment(Config.parse({"datasets": {"had": None, "urgen": None}}))
