"""The tables of scores and of pairs: what they hold, what a permutation finds in them, and files that are refused."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.config.training_settings import Evaluation
from boldscribe.data.reasons import UNDESCRIBED
from boldscribe.descriptions import DESCRIPTIONS
from boldscribe.evaluation.score_tables import read_left_out, read_signatures
from boldscribe.evaluation.scores import statistics_columns, write_scores
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import sha256_of
from tests.as_step import as_step

WAYS = [2, 3, 50]
CONFIG = Config(
    evaluation=Evaluation(
        bertscore_model="embedded", bertscore_layer=6, bertscore_baseline=None, sentence_encoder="embedded", identification_ways=WAYS
    )
)
REFERENCES = {
    "05": ["A man plays squash.", "A woman has her hair cut.", "A red figure jumps.", "A man in a hat.", "A man plays squash."],
    "06": ["Dogs run in the snow.", "A boy is swimming.", "Two men talk.", "A girl sings.", "A cat sleeps."],
}
MODEL = ["A man hits a ball.", "a woman in a hat", "It jumps.", "", "A man plays squash."]
INSTRUCTIONS = ["What?", "What?", "Describe.", "What?", "Describe."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Decoded texts of two conditions, and the captions of two test shards."""
    keys = [{"subject": s, "trial": t + 40, "instruction": INSTRUCTIONS[t]} for s in REFERENCES for t in range(5)]
    for condition, texts in {"model": MODEL, "llm": ["a", "b", "A man plays squash.", "", "c"]}.items():
        pd.DataFrame(keys).assign(prediction=texts * 2).iloc[::-1].to_parquet(tmp_path / f"condition-{condition}.parquet")
    captions = pd.DataFrame(keys).assign(text=REFERENCES["05"] + REFERENCES["06"], stim_file="x.mp4")
    captions.iloc[:3].to_parquet(tmp_path / "test-000_captions.parquet")
    captions.iloc[3:].to_parquet(tmp_path / "test-001_captions.parquet")
    return tmp_path


def _write(folder: Path, models_dir: Path, conditions: tuple[str, ...] = ("model", "llm")) -> tuple[pd.DataFrame, pd.DataFrame]:
    paths = folder / "scores" / "had.parquet", folder / "scores" / "had_pairs.parquet"
    write_scores(
        CONFIG,
        decoded=[folder / f"condition-{c}.parquet" for c in conditions],
        captions=sorted(folder.glob("*_captions.parquet")),
        models_dir=models_dir,
        scores=paths[0],
        pairs=paths[1],
    )
    return pd.read_parquet(paths[0]), pd.read_parquet(paths[1])


def test_tables_of_a_data_set(folder: Path, encoder_models_dir: Path) -> None:
    scores, pairs = _write(folder, encoder_models_dir)
    statistics = statistics_columns(WAYS)
    assert list(scores) == ["condition", "subject", "trial", "instruction", "prediction", "reference", *statistics]
    assert list(pairs) == ["condition", "subject", "trial", "other", *statistics]
    assert scores["condition"].tolist() == ["model"] * 10 + ["llm"] * 10
    assert scores["trial"].tolist() == [40, 41, 42, 43, 44] * 4
    assert scores["prediction"].tolist()[:5] == MODEL and scores["reference"].tolist()[5:10] == REFERENCES["06"]
    same = pairs.merge(scores[["subject", "trial", "instruction"]].drop_duplicates(), on=["subject", "trial"])
    assert same.groupby(["subject", "condition", "instruction"]).size().tolist() == [4, 9] * 4, "all pairs with one instruction"
    own = pairs[pairs["trial"] == pairs["other"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(own[statistics], scores[statistics].astype(np.float32), check_exact=True)
    exact = scores[scores["prediction"] == scores["reference"]]
    np.testing.assert_allclose(exact[["bertscore", "sacrebleu_2", "rouge_l_f", "sentence_similarity", "identification"]], 100, atol=1e-3)
    blank = scores[(scores["prediction"] == "") & (scores["subject"] == "06")]
    np.testing.assert_allclose(blank[["identification", "identification_2way"]], [[20, 50]] * 2, err_msg="a blank text is at chance")
    assert scores["identification_50way"].isna().all() and scores["identification_3way"].notna().all()


def test_texts_are_scored_against_a_sentence_of_each_clip_and_trials_without_one_are_left_out(
    folder: Path, encoder_models_dir: Path
) -> None:
    """The model says a person's sentence in one trial: the one that the captioner's caption is not."""
    for path in folder.glob("*_captions.parquet"):
        table = pd.read_parquet(path)
        table.assign(stim_file=[f"{trial}.mp4" for trial in table["trial"]]).to_parquet(path)
    texts = folder / "texts.tsv"
    rows = {40: "A man hits a ball.", 41: "Hair is cut.", 42: "Somebody in red.", 44: "People play."}
    texts.write_text("stimulus\tdescription\n" + "".join(f"{clip}\t{text}\n" for clip, text in rows.items()))
    design = {"train_subjects": ["01"], "validation_subjects": ["05", "06"], "adaptation_runs": ["01"], "test_runs": ["02"]}
    datasets = {"lab": {**design, "description_file": str(texts)}}
    config = as_step(
        Config.model_validate({**CONFIG.model_dump(by_alias=True), "datasets": datasets}), "scores", dataset="lab", references=DESCRIPTIONS
    )
    paths = {"scores": folder / "lab.parquet", "pairs": folder / "pairs.parquet"}
    files = {"decoded": [folder / "condition-model.parquet"], "captions": sorted(folder.glob("*_captions.parquet"))}
    write_scores(config, **files, models_dir=encoder_models_dir, **paths, described="lab")
    scores = pd.read_parquet(paths["scores"])
    assert scores[["trial", "prediction", "reference"]].to_numpy().tolist()[:4] == [
        [trial, MODEL[trial - 40], text] for trial, text in rows.items()
    ]
    said = scores[scores["trial"] == 40]
    np.testing.assert_allclose(said[["bertscore", "sacrebleu_2", "rouge_l_f", "sentence_similarity", "identification"]], 100, atol=1e-3)
    captioned = _write(folder, encoder_models_dir)[0].query("condition == 'model' and trial == 44")
    assert (captioned["rouge_l_f"].iloc[0], scores.query("trial == 44")["rouge_l_f"].iloc[0]) == (100, 0), "other references, other scores"
    expected = [[subject, 43, "test", UNDESCRIBED, "43.mp4"] for subject in ("05", "06")]
    assert read_left_out([paths["scores"]])[0].to_numpy().tolist() == expected and read_left_out([folder / "scores" / "had.parquet"]) == []
    texts.write_text("stimulus\tdescription\nx\tNo clip of the test.\n")
    with pytest.raises(UserError, match=r"found no description of any test clip of sub-05, sub-06, such as 40\.mp4"):
        write_scores(config, **files, models_dir=encoder_models_dir, **paths, described="lab")


def test_pairs_are_the_scores_of_permuted_references(folder: Path, encoder_models_dir: Path) -> None:
    """Scoring again with the references of two trials exchanged finds what the table of pairs says."""
    _, pairs = _write(folder, encoder_models_dir)
    for path in folder.glob("*_captions.parquet"):
        table = pd.read_parquet(path)
        table.loc[(table["subject"] == "05") & (table["trial"] == 40), "text"] = REFERENCES["05"][1]
        table.loc[(table["subject"] == "05") & (table["trial"] == 41), "text"] = REFERENCES["05"][0]
        table.to_parquet(path)
    permuted, _ = _write(folder, encoder_models_dir)
    for trial, other in [(40, 41), (41, 40)]:
        found = permuted.query(f"subject == '05' and trial == {trial}")[statistics_columns(WAYS)].astype(np.float32)
        expected = pairs.query(f"subject == '05' and trial == {trial} and other == {other}")[statistics_columns(WAYS)]
        pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True), check_exact=True)
        assert found["bertscore"].gt(0).all()


def test_a_condition_is_scored_alike_whatever_the_others_are(folder: Path, encoder_models_dir: Path) -> None:
    together, pairs = _write(folder, encoder_models_dir)
    alone, pairs_alone = _write(folder, encoder_models_dir, conditions=("llm",))
    pd.testing.assert_frame_equal(together[10:].reset_index(drop=True), alone, check_exact=True)
    pd.testing.assert_frame_equal(pairs[pairs["condition"] == "llm"].reset_index(drop=True), pairs_alone, check_exact=True)


def test_signatures_say_how_the_metrics_were_computed(folder: Path, encoder_models_dir: Path) -> None:
    _write(folder, encoder_models_dir)
    signatures = read_signatures(folder / "scores" / "had.parquet")
    weights = sha256_of(encoder_models_dir / "sentence_encoder" / "model.safetensors")[:12]
    assert re.fullmatch(rf"sentence_encoder_L6_no-idf_version=\S+\|F1\|layer:6\|raw\|weights:sha256:{weights}", signatures["bertscore"])
    assert signatures["sacrebleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert all(any(column.startswith(name) for column in statistics_columns(WAYS)) for name in signatures)
    with pytest.raises(UserError, match="no signatures"):
        read_signatures(folder / "condition-llm.parquet")


def test_what_does_not_fit_is_refused(folder: Path, encoder_models_dir: Path) -> None:
    path = folder / "condition-model.parquet"
    whole = pd.read_parquet(path)
    changed = whole.assign(instruction=whole["instruction"].where(whole["trial"] != 42, "Why?"))
    for table, message in [
        (pd.concat([whole, whole.assign(trial=9)[:1]]), r"condition model, sub-06 trial\(s\) 9: no reference"),
        (whole[whole["trial"] != 43], r"condition model, sub-05 trial\(s\) 43; sub-06 trial\(s\) 43: not decoded, expected all test"),
        (whole[whole["subject"] == "06"], r"condition model, sub-05 trial\(s\) 40, 41, 42, 43, 44: not decoded"),
        (pd.concat([whole, whole[:1]]), r"condition model, sub-06 trial\(s\) 44: repeated"),
        (whole.assign(prediction=None), "prediction is null"),
        (changed, r"condition model, sub-05 trial\(s\) 42; sub-06 trial\(s\) 42: the instruction differs"),
    ]:
        table.to_parquet(path)
        with pytest.raises(UserError, match=message):
            _write(folder, encoder_models_dir)
    whole.to_parquet(path)
    captions = pd.read_parquet(folder / "test-000_captions.parquet")
    captions.to_parquet(folder / "test-002_captions.parquet")
    with pytest.raises(UserError, match=r"sub-05 trial\(s\) 40, 41, 42: found several captions"):
        _write(folder, encoder_models_dir)
    assert not (folder / "scores").exists()
