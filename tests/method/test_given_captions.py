"""Captions that the data set gives: every form of file is read alike, a description is drawn for each trial, and ceilings are possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config, check_experiment
from boldscribe.data.checked import Checked
from boldscribe.data.checks import raw_manifest
from boldscribe.data.described import describe, described, description_problems
from boldscribe.data.event_checks import RunEvents
from boldscribe.data.placement import displacement_path
from boldscribe.data.reasons import UNDESCRIBED
from boldscribe.data.trials import write_trials
from boldscribe.descriptions import CAPTIONS, DESCRIPTIONS, descriptions_of, read_descriptions
from boldscribe.drawn_descriptions import drawn_descriptions
from boldscribe.evaluation.notes import conditions, references
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array
from boldscribe.stimuli.captions import COLUMNS
from boldscribe.stimuli.given_captions import write_given_captions
from tests.as_step import as_step
from tests.small_dataset import write_dataset

A = ("A girl jumps.", "Somebody jumps, laughing.")
FILES = {
    "rows.tsv": "stimulus\tdescription\na\tA girl jumps.\nb\tA dog.\na\tSomebody jumps, laughing.\n",
    "columns.tsv": "stim_file\tsentence_1\tsentence_2\na.mp4\tA girl jumps.\tSomebody jumps, laughing.\nb.mp4\tA dog.\tn/a\n",
    "quoted.csv": 'stimulus,class,caption 1,caption 2\na,1,A girl jumps.,"Somebody jumps, laughing."\n\nb,2,A dog.,\n',
    "bom.tsv": "\ufeffstimulus\tdescription\r\na\t A girl  jumps. \r\na\tSomebody jumps, laughing.\r\na\tA girl jumps.\r\nb\tA dog.\r\n",
    "lists.json": json.dumps({"a": [*A, None, A[0]], "b": "A dog."}),
    "objects.json": json.dumps({"a.mp4": {"actions": ["jumping"], "text_descriptions": A}, "b.mp4": {"text_descriptions": ["A dog."]}}),
    "records.json": json.dumps(
        [{"stimulus": "a", "caption": A[0]}, {"stimulus": "a", "caption": A[1]}, {"stimulus": "b", "caption": "A dog."}]
    ),
    "paths.tsv": "stimulus\tdescription\n./a.mp4\tA girl jumps.\nstimuli/a.mp4\tSomebody jumps, laughing.\nb\tA dog.\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_form_of_file_gives_the_same_texts(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name], newline="")
    assert descriptions_of(["a.mp4", "b.mp4", "c.mp4", ""], tmp_path / name) == {"a.mp4": A, "b.mp4": ("A dog.",), "c.mp4": (), "": ()}


def test_a_quotation_mark_is_a_character_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text('stimulus\tdescription\na\t"Run\nb\t"Jump", she says\n')
    assert read_descriptions(tmp_path / "x.tsv") == {"a": ('"Run',), "b": ('"Jump", she says',)}


def test_a_text_of_several_lines_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('stimulus,description\na,"A girl\njumps."\nb,A dog.\n')
    (tmp_path / "x.tsv").write_text("stimulus\tdescription\na\tA girl\u2028jumps.\nb\tA dog.\n")
    for name in ("x.csv", "x.tsv"):
        assert read_descriptions(tmp_path / name) == {"a": ("A girl jumps.",), "b": ("A dog.",)}


def test_the_stimulus_manifest_may_be_the_file(tmp_path: Path) -> None:
    manifest = tmp_path / "stimuli.tsv"
    manifest.write_text("stimulus\tstim_file\taction\tsource\tdescription\n7\twalk/3.mp4\twalk\tn/a\tHe walks.\n8\tn/a\tn/a\tn/a\tn/a\n")
    assert descriptions_of(["walk/3.mp4"], manifest, manifest) == {"walk/3.mp4": ("He walks.",)}
    (tmp_path / "texts.json").write_text('{"7": "She walks.", "3": "another clip"}')
    assert descriptions_of(["walk/3.mp4", "run/3.mp4"], tmp_path / "texts.json", manifest) == {
        "walk/3.mp4": ("She walks.",),
        "run/3.mp4": (),
    }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.tsv", "clip\tdescription\na\tb\n", "columns: found clip, description, expected a table"),
        ("x.tsv", "stimulus\twords\na\tb\n", "columns: found stimulus, words"),
        ("x.tsv", "stimulus\tdescription\na\tb\tc\n", "line 2: found 3 cells, expected 2"),
        ("x.tsv", "stimulus\tdescription\na\tn/a\nb\t\n", "found no description in it"),
        ("x.tsv", "", "found an empty file"),
        ("x.json", "{", "not JSON"),
        ("x.json", "7", "found no description in it"),
        ("x.json", '{"a": 7}', "a: found 7, expected"),
        ("x.json", '{"a": {"actions": ["run"]}}', r'a: found {"actions": \["run"\]}'),
        ("x.json", '[{"description": "x"}]', "None: found"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=words):
        read_descriptions(tmp_path / name)


def test_a_file_that_is_missing_or_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="description_file: cannot be read"):
        read_descriptions(tmp_path / "absent.tsv")
    (tmp_path / "latin.tsv").write_bytes("stimulus\tdescription\na\tcafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"expected text in UTF-8"):
        read_descriptions(tmp_path / "latin.tsv")


def given(demo: Config, captioner: str = "given", **dataset: Any) -> Config:
    """The demo with given captions, or those of a captioner, for one data set of three subjects."""
    values = demo.model_dump(by_alias=True)
    plain = {"simulated": None, "description_column": None, "train_subjects": ["01", "02"], "validation_subjects": ["03"]}
    values["datasets"] = {"lab": values["datasets"]["had"] | plain | dataset}
    return Config.model_validate(merge(values, {"captioner": {"kind": captioner}}))


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, list[Path]]:
    """Trials of two clips, each shown often, under two instructions."""
    n = 40
    index = {"subject": "01", "trial": range(n)}
    labels = tmp_path / "labels.parquet"
    for role in ("train", "test"):
        pd.DataFrame({**index, "role": role, "instruction": ["What?", "Describe."] * (n // 2)}).to_parquet(tmp_path / f"{role}.parquet")
    files = ["a.mp4"] * (n // 2) + ["b.mp4"] * (n // 2)
    pd.DataFrame({**index, "stim_file": files, "description": [f"text {i}" for i in range(n)]}).to_parquet(labels)
    return {"train": [tmp_path / "train.parquet"], "test": [tmp_path / "test.parquet"], "labels": [labels]}


def captions(config: Config, tables: dict[str, list[Path]], split: str, output: Path, again: bool = False) -> pd.DataFrame:
    step = as_step(config, "captions_again" if again else "captions", dataset="lab", split=split, shard="000")
    write_given_captions(step, "lab", split, 0, trials=tables[split], labels=tables["labels"], output=output, again=again)
    return pd.read_parquet(output)


def test_one_of_several_is_drawn_for_each_training_trial_and_for_each_test_clip(
    demo: Config, tables: dict[str, list[Path]], tmp_path: Path
) -> None:
    (tmp_path / "texts.json").write_text(json.dumps({"a": ["a1", "a2", "a3"], "b": ["b1", "b2"]}))
    config = given(demo, description_file=str(tmp_path / "texts.json"))
    table = captions(config, tables, "train", tmp_path / "x.parquet")
    assert list(table) == [*COLUMNS, "others"] and len(table) == 40
    assert set(table["text"][:20]) == {"a1", "a2", "a3"} and set(table["text"][20:]) == {"b1", "b2"}
    assert all(sorted([text, *others]) == ["a1", "a2", "a3"] for text, others in table[["text", "others"]][:20].to_numpy())
    assert captions(config, tables, "train", tmp_path / "y.parquet").equals(table), "drawn with the seed"
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "y.parquet").read_bytes()
    other = captions(config.model_copy(update={"seed": config.seed + 1}), tables, "train", tmp_path / "y.parquet")
    assert other["text"].tolist() != table["text"].tolist()
    tested, again = (captions(config, tables, "test", tmp_path / "x.parquet", again) for again in (False, True))
    assert tested["text"].nunique() == again["text"].nunique() == 2, "one reference of a clip"
    assert (tested["text"] != again["text"]).all() and (tested["text"].str[0] == again["text"].str[0]).all()
    assert tested.attrs["captioner"]["kind"] == "given"


def test_descriptions_of_the_events_are_their_trials_own(demo: Config, tables: dict[str, list[Path]], tmp_path: Path) -> None:
    config = given(demo, description_column="words")
    assert captions(config, tables, "train", tmp_path / "x.parquet")["text"].tolist() == [f"text {i}" for i in range(40)]
    with pytest.raises(UserError, match=r"b\.mp4: found no second description"):
        captions(config, tables, "test", tmp_path / "x.parquet", again=True)


def test_ceilings_are_those_that_the_descriptions_allow(demo: Config, tmp_path: Path) -> None:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"a": list(A), "b": ["A dog.", "A barking dog."]}))
    of_events = given(demo, description_column="words")
    assert {"captioner", "human"}.isdisjoint(of_events.conditions("lab"))
    assert of_events.impossible("lab")["human"] == "the data set's descriptions are the references themselves"
    several = given(demo, description_file=str(texts), description_column="words")
    assert {"captioner", "human"} <= set(several.conditions("lab")), "the events' words are a ceiling beside the file's"
    notes = " ".join(conditions(as_step(several, "tables", dataset="lab"), "lab"))
    assert "second answer is another of the data set's descriptions" in notes
    assert "the data set itself (given descriptions, no captioner)" in references(several) and "not comparable" in references(several)
    once = tmp_path / "once.json"
    once.write_text(json.dumps({"a": list(A), "b": "A dog.", "c": []}))
    assert given(demo, description_file=str(once)).impossible("lab") == {
        "wrongsubject": "there is one target subject",
        "human": "the data set has no descriptions of its clips (description_column)",
        "captioner": "the captions are given, and 1 of 2 clips have one description only",
    }


def test_beside_a_captioner_people_are_the_references_of_a_second_table(demo: Config, tmp_path: Path) -> None:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"a": list(A), "b": ["A dog.", "A barking dog."], "c": []}))
    config = given(demo, "video_llama", description_file=str(texts))
    assert config.references("lab") == [CAPTIONS, DESCRIPTIONS] and given(demo, description_file=str(texts)).references("lab") == [CAPTIONS]
    assert "human" in config.conditions("lab") and "human" in config.conditions("lab", DESCRIPTIONS)
    trials = [{"stim_file": f"{clip}.mp4", "description": ""} for clip in "abacb"]
    describe(as_step(config, "trials", dataset="lab", subject="01"), "lab", trials)
    said = [trial["description"] for trial in trials]
    assert said[3] == "" and said[0] == said[2] and said[1] == said[4], "one sentence of a clip, whatever the trial"
    drawn = drawn_descriptions(as_step(config, "scores", dataset="lab", references=DESCRIPTIONS), "lab", ["a.mp4", "b.mp4"])
    assert [texts[0] for texts in drawn.values()] == said[:2] and all(texts[-1] != texts[0] for texts in drawn.values())

    texts.write_text(json.dumps({"a": list(A), "b": "A dog."}))
    config = given(demo, "video_llama", description_file=str(texts))
    assert "human" in config.conditions("lab") and "human" not in config.conditions("lab", DESCRIPTIONS)
    assert config.impossible("lab", DESCRIPTIONS)["human"] == "1 of 2 clips have one description only, which is the reference"
    assert "human" not in config.impossible("lab")
    of_events = given(demo, "video_llama", description_file=str(texts), description_column="words")
    assert "human" in of_events.conditions("lab", DESCRIPTIONS), "the events' own words are no reference"
    trials = [{"stim_file": "a.mp4", "description": "words"}]
    describe(of_events, "lab", trials)
    assert trials[0]["description"] == "words"
    with pytest.raises(UserError, match=r"absent\.json: description_file: cannot be read"):
        check_experiment(given(demo, "video_llama", description_file=str(tmp_path / "absent.json")))


def test_given_captions_that_are_not_given_are_refused_when_the_configuration_is_read(demo: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"datasets\.lab: found neither description_file nor description_column"):
        check_experiment(given(demo))
    with pytest.raises(UserError, match=r"absent\.json: description_file: cannot be read"):
        check_experiment(given(demo, description_file=str(tmp_path / "absent.json")))
    check_experiment(given(demo, description_column="words"))


def test_trials_without_description_are_found_and_a_file_that_names_no_clip_is_a_problem(demo: Config, tmp_path: Path) -> None:
    texts = tmp_path / "texts.json"
    texts.write_text('{"a": "A girl.", "b": null}')
    trials = pd.DataFrame({"stim_file": ["a.mp4", "b.mp4", "c.mp4"], "description": ["", "words", ""], "reason": ""})
    events = {"01": {"1": RunEvents(Path("events.tsv"), trials)}}
    for config, has in (
        (demo, [True, True, True]),
        (given(demo, description_column="words"), [False, True, False]),
        (given(demo, description_file=str(texts)), [True, False, False]),
    ):
        design = next(iter(config.datasets.values()))
        assert described(config, design, trials.to_dict("records")) == has
        assert description_problems(config, design, events) == []
    texts.write_text('{"clip 1": "A girl."}')
    for captioner in ("given", "video_llama"):
        config = given(demo, captioner, description_file=str(texts))
        assert (
            "found no description of any of 3 clips of sub-01, such as a.mp4"
            in description_problems(config, config.datasets["lab"], events)[0]
        )


def test_trials_without_description_are_left_out_with_their_reason(demo: Config, tmp_path: Path) -> None:
    """The clip `b.mp4` has none; in runs that only adapt, descriptions play no part."""
    bids = write_dataset(tmp_path / "lab", subjects=3)
    (tmp_path / "texts.tsv").write_text("stimulus\tdescription\na\tA girl jumps.\nb\tn/a\n")
    paths = {"bids_dir": str(bids), "description_file": str(tmp_path / "texts.tsv"), "session": None, "adapter": "bids"}
    listed = raw_manifest(as_step(given(demo, **paths), "fetch_dataset", dataset="lab"), "lab")["manifest"]
    assert [entry["path"] for entry in listed[str(tmp_path / "texts.tsv")]] == ["texts.tsv"], "raw data, wherever it lies"
    config = as_step(given(demo, **paths), "trials", dataset="lab", subject="03")
    shared = {"n_volumes": 20, "duration": 40.0, "start_time": 0.0, "repetition_time": 2.0}
    series = tmp_path / "sub-03_bold.npy"
    save_array(series, np.zeros((40, 5), np.float16), runs=[{"run": f"0{i}", "first_volume": 20 * (i - 1), **shared} for i in (1, 2)])
    save_array(displacement_path(series), np.zeros(40, np.float32))
    (tmp_path / "checked.json").write_text(json.dumps(Checked().as_report()))
    outputs = {name: tmp_path / f"{name}.parquet" for name in ("trials", "labels", "excluded")}
    write_trials(config, "lab", "03", series=series, checked=tmp_path / "checked.json", **outputs)
    kept, labels, excluded = (pd.read_parquet(path) for path in outputs.values())
    assert list(zip(kept["role"], labels["stim_file"], strict=True)) == [("adapt", "a.mp4"), ("adapt", "b.mp4"), ("test", "a.mp4")]
    assert excluded[["role", "reason", "detail"]].to_numpy().tolist() == [["test", UNDESCRIBED, "b.mp4"]]
