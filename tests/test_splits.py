"""Dev rows that are set aside: what stays together, how many they are, and what is done where they are of no use."""

import numpy as np
import pytest
from conftest import finetune_flags, reviews, write_tsv

from kbert import finetune
from kbert.config import TextConfig
from kbert.files import read_json, write_json
from kbert.model_dir import ModelDir
from kbert.permutation import ORDER
from kbert.settings import to_json
from kbert.tasks import splits

UNCASED, CASED = (TextConfig(lowercase=x, strip_accents=x) for x in (True, False))


def test_texts_that_a_model_cannot_tell_apart_are_alike():
    of = splits.hashed(UNCASED)
    same = ("Caf\u00e9  ist GUT!", "cafe ist gut !", "cafe\u0301 ist\u00a0gut!", "\ufeffcafe ist\u200b gut!")
    assert len({of(text) for text in same}) == 1 and of("\u7535\u5f71") == of("\u7535 \u5f71") != of("\u7535\u5f72")
    cased = splits.hashed(CASED)
    assert len({cased(text) for text in same}) == 3 and cased("Caf\u00e9") == cased("Cafe\u0301") != cased("caf\u00e9")


def test_rows_that_share_either_text_stay_together(caplog):
    rng = np.random.default_rng(0)
    alike = np.stack([rng.integers(0, 3000, 2000), rng.integers(3000, 6000, 2000)], 1).astype(np.uint32)
    group = splits.groups(alike, ("text", "text_b"))
    aside = splits.set_aside(group, 0.2)
    assert aside.sum() == 400 and not caplog.text
    for column in alike.T:
        assert not set(column[aside]) & set(column[~aside])
    assert (splits.set_aside(group, 0.2, 1) != aside).any() and (splits.set_aside(group, 0.2) == aside).all()
    kept = splits.set_aside(group[:1900], 0.2)  # most stay where they are when rows are added
    assert (kept & ~aside[:1900]).sum() < 60


def test_where_most_rows_hang_together_one_text_decides(caplog):
    rows = np.arange(1000, dtype=np.uint32)
    alike = np.stack([rows // 4, 10_000 + rows % 7], 1)
    group = splits.groups(alike, ("text", "text_b"))
    assert (group == alike[:, 0]).all() and "set aside by the text alone, and may share the text_b" in caplog.text
    aside = splits.set_aside(group, 0.1)
    assert aside.sum() == 100 and not set(alike[aside, 0]) & set(alike[~aside, 0])


def test_few_rows_and_large_groups_still_give_two_sides():
    for group in ([5, 5, 5, 9], [1, 2], [3, 3, 4, 4]):
        aside = splits.set_aside(np.array(group, np.uint32), 0.1)
        assert 0 < aside.sum() <= len(group) / 2
    assert not splits.set_aside(np.array([4, 4, 4], np.uint32), 0.5).any()


def test_a_run_goes_on_with_the_dev_rows_it_was_begun_with(checkpoint, tmp_path, capsys):
    path = write_tsv(tmp_path / "train.tsv", reviews(120, 5))
    flags = finetune_flags(checkpoint, tmp_path, tmp_path / "m", dev_data=None, epochs=0)
    assert finetune.main(flags) == 0
    model, train = ModelDir(tmp_path / "m").read_config()
    assert train.data_order == ORDER and "dev (12 rows)" in capsys.readouterr().out
    document = read_json(tmp_path / "m" / "config.json")
    del document["train"]["data_order"]  # as before it was kept
    write_json(tmp_path / "m" / "config.json", document)
    (tmp_path / "m" / "metrics.json").unlink()
    assert finetune.main([*flags, f"--test_data={path}"]) == 0
    captured = capsys.readouterr()
    assert "dev 12 rows" not in captured.err and "is finished" in captured.out
    assert ModelDir(tmp_path / "m").read_config()[1].data_order == 1
    assert finetune.main([*flags, "--overwrite"]) == 0
    assert ModelDir(tmp_path / "m").read_config()[1].data_order == ORDER and to_json(model)


@pytest.mark.parametrize("scorer", ["cross", "dual"])
def test_dev_rows_that_cannot_be_measured_are_found_before_training(checkpoint, tmp_path, capsys, scorer):
    write_tsv(tmp_path / "train.tsv", [(f"film {i}", f"good {i % 2}") for i in range(12)], ("title", "text"))
    more = {"task": "match", "dev_data": None, "scorer": scorer, "max_length": 12, "epochs": 1, "steps": 1, "dev_fraction": 0.2}
    assert finetune.main(finetune_flags(checkpoint, tmp_path, tmp_path / "m", **more)) == 1
    err = capsys.readouterr().err
    assert "no dev rows can be set aside" in err and "have the same text" in err and "--dev_data" in err
    assert not (tmp_path / "m" / "config.json").exists()


def test_dev_rows_of_both_labels_are_looked_for(checkpoint, tmp_path, capsys):
    rows = [(f"good {i}", "rare" if i < 3 else "common") for i in range(40)]
    write_tsv(tmp_path / "train.tsv", rows)
    more = {"dev_data": None, "epochs": 0, "dev_fraction": 0.2}
    assert finetune.main(finetune_flags(checkpoint, tmp_path, tmp_path / "m", **more)) == 0
    metrics = ModelDir(tmp_path / "m").metrics()["dev"]
    assert all(sum(row) for row in metrics["confusion_matrix"]) and "one label only" not in capsys.readouterr().err
