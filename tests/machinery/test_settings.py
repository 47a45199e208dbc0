"""A step gets the settings that its program declares, and no others."""

import ast
import pickle
from collections.abc import Iterator

import pytest

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.provenance.fingerprint import current_code
from boldscribe.machinery.section import Section, UndeclaredSettingError, restricted
from boldscribe.machinery.steps.slices import declared, keys_of, slice_of
from tests.as_step import as_step, whereabouts
from tests.conftest import ROOT

STEPS = sorted(path.stem for path in (ROOT / "workflow_scripts").glob("[a-z]*.py"))
# Settings that code asks for in one of two cases only, of which a step has the other.
NOT_HERE = {("captions_again", "video_llama.do_sample")}
# Its design is a set that SC-MBM alone is pretrained on, which has no stimuli.
WITHOUT_STIMULI = {("pretraining_series", "datasets")}


def test_a_step_has_what_it_declares_and_an_error_names_the_rest() -> None:
    config = as_step(Config(), "stage1", dataset="had", encoder="model")
    assert config.stage1 == Config().stage1 and config.datasets["had"].train_subjects == Config().datasets["had"].train_subjects
    unread = (lambda: config.evaluation, lambda: config.datasets["had"].task, lambda: config.conditions("had"), lambda: config.stimuli.size)
    for read in unread:
        with pytest.raises(UndeclaredSettingError, match=r"this step does not declare the setting; add it to SETTINGS"):
            read()
    assert list(config.datasets) == ["had"] and isinstance(config, Config)
    assert pickle.loads(pickle.dumps(config)) == config, "worker processes get it as it is"
    assert config.model_dump(mode="json")["training"].keys() == {"compile", "precision"}


def test_a_whole_section_its_parts_and_names_of_data_sets() -> None:
    config = Config()
    assert restricted(config, ["stage2"]).stage2 == config.stage2
    assert restricted(config, ["stage2.lambda"]).stage2.lambda_ == config.stage2.lambda_, "by the name that files use"
    assert list(restricted(config, ["datasets.(names)", "datasets.had.task"]).datasets) == ["had", "urgen"]
    assert restricted(config, ["datasets.had.simulated.runs"]).datasets["had"].simulated is None


def test_a_fold_has_the_settings_of_its_data_set_and_the_other_folds() -> None:
    raw = merge(Config().model_dump(by_alias=True), {"datasets": {"had": {"leave_out": 15}}})
    config = Config.parse(raw)
    names = {"had", "hadfold01", "hadfold02"}
    assert set(as_step(config, "stage1", dataset="hadfold01", encoder="model").datasets) == names
    assert {key.split(".")[1] for key in slice_of(config, "tables", {"dataset": "had"}) if key.startswith("datasets.")} == names


def test_every_declared_setting_exists() -> None:
    for step in STEPS:
        settings, by = declared(step)
        for keys in settings.values() if isinstance(settings, dict) else [settings]:
            for key in keys.split():
                assert key.partition(".")[0] in {info.alias or name for name, info in Config.model_fields.items()}, (step, key)
        if by and by not in ("asset", "references"):
            assert keys_of(settings, by, Config(), {}), step


@pytest.mark.parametrize("step", STEPS)
def test_no_step_reaches_code_that_reads_a_setting_which_it_does_not_declare(step: str) -> None:
    """By the text of the code that its program can reach, whatever the configuration: `config.SECTION.KEY`."""
    settings, _ = declared(step)
    keys = " ".join(settings.values()).split() if isinstance(settings, dict) else str(settings).split()
    granted = {".".join(key.replace(".*.", ".").split(".")[:2]) for key in [*keys, *whereabouts(step)]}
    sections = {name.partition(".")[0] for name in granted}
    for section, key in reads_of(step):
        if (step, section) in WITHOUT_STIMULI:
            continue
        if section == "pretraining" or section in granted or not key:
            assert section in sections, f"{section} in {step}"
        else:
            assert f"{section}.{key}" in granted or (step, f"{section}.{key}") in NOT_HERE, f"{section}.{key} in {step}"


def reads_of(step: str) -> Iterator[tuple[str, str]]:
    """Section, and key or nothing, of each `config.…` in the definitions that a program can reach."""
    code = current_code()
    for part in code.fingerprint(step).parts:
        module, _, name = part.rpartition(".")
        if "/" not in part and module.startswith(("boldscribe", "workflow_scripts")):
            for statement in code.statements(module, name):
                for node in ast.walk(statement):
                    yield from _read(node)


def _read(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Attribute) and node.attr in Dataset.model_fields and _is_dataset(node.value):
        yield "datasets", node.attr
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        names = [node.id, *names]
        names = names[names[:1] == ["self"] :]
        if names[:1] == ["config"] and len(names) > 1 and names[1] in Config.model_fields:
            section = Config.model_fields[names[1]].annotation
            fields = section.model_fields if isinstance(section, type) and issubclass(section, Section) else {}
            known = len(names) > 2 and names[2] in fields
            yield names[1], (fields[names[2]].alias or names[2]) if known else ""


def _is_dataset(node: ast.AST) -> bool:
    """`config.datasets[...]`, or what is named `design` everywhere."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "datasets"
    return isinstance(node, ast.Name) and node.id == "design"
