"""Figures of `kbert.evaluate --metrics_out` beside those that others compute from what `kbert.predict` answers.

Files like AG News, SQuAD 2, graded pairs and CoNLL-2003 are written here, a tiny model learns a little of each, and every figure
of the JSON is computed once more: by scikit-learn, SciPy, seqeval, a port of SQuAD's own script. They agree to 1e-6.
"""

import collections
import json
import re
import string
from pathlib import Path

import numpy as np
import pytest
from conftest import finetune_flags
from scipy.stats import pearsonr, spearmanr
from seqeval import scheme as schemes
from seqeval.metrics import sequence_labeling as seqeval
from seqeval.metrics import v1
from sklearn import metrics as sk

from kbert import evaluate, finetune, predict


def trained(checkpoint: Path, folder: Path, suffix: str, **more: object) -> Path:
    """A model of `folder`'s train and dev files, of a pass or two: right often, and often wrong."""
    files = {"train_data": folder / f"train{suffix}", "dev_data": folder / f"dev{suffix}"}
    flags = {"epochs": 1, "learning_rate": 0.02, "seed": 1, **more, **files}
    assert finetune.main(finetune_flags(checkpoint, folder, folder / "model", **flags)) == 0
    return folder / "model"


def measured(model: Path, path: Path, *more: str) -> dict:
    out = path.with_suffix(".metrics.json")
    assert evaluate.main([f"--model_dir={model}", f"--data={path}", f"--metrics_out={out}", *more]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def answered(model: Path, path: Path, *more: str) -> list[dict]:
    out = path.with_suffix(".answers.jsonl")
    assert predict.main([f"--model_dir={model}", f"--input={path}", f"--output={out}", *more]) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def flat(value: object, name: str = "") -> dict[str, object]:
    """A JSON value's numbers and strings, each under its path."""
    if not isinstance(value, dict | list):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {key: one for part, inner in items for key, one in flat(inner, f"{name}/{part}").items()}


def agree(found: dict, expected: dict) -> None:
    """Every figure that either of them has, to 1e-6; what is no number is equal."""
    ours, theirs = flat(found), flat(expected)
    assert sorted(ours) == sorted(theirs)
    number = lambda value: isinstance(value, int | float)  # noqa: E731
    apart = {
        name: (ours[name], value)
        for name, value in theirs.items()
        if (not abs(ours[name] - value) <= 1e-6 if number(value) and number(ours[name]) else ours[name] != value)
    }
    assert not apart


NEWS = ["World", "Sports", "Business", "Sci/Tech"]


def news(rows: int, seed: int, shares: list[float]) -> list[tuple[str, str, str]]:
    """Class, title, description; a word tells the class, most of the time."""
    rng = np.random.default_rng(seed)
    words = [["good", "film"], ["bad", "plot"], ["cafe", "dull"], ["unlike", "fine"]]
    out = []
    for kind in rng.choice(4, rows, p=shares):
        told = kind if rng.random() < 0.7 else rng.integers(4)
        title, text = ([*rng.choice(["the", "a", "is", "very"], 3), str(rng.choice(words[told]))] for _ in range(2))
        out.append((NEWS[kind], " ".join(title).title(), f'{" ".join(text)}, and "x" not.'))
    return out


def test_classes_by_scikit_learn(checkpoint, tmp_path):
    """Four classes of unequal size, one of which the test rows do not have."""
    for name, rows, shares in (
        ("train", 160, [0.4, 0.3, 0.2, 0.1]),
        ("dev", 40, [0.25] * 4),
        ("test", 90, [0.5, 0.3, 0.2, 0.0]),
    ):
        lines = ['"label","title","description"']
        lines += [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in news(rows, rows, shares)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = {"text_columns": "title,description", "label_column": "label"}
    model = trained(checkpoint, tmp_path, ".csv", **columns, max_length=30, epochs=5, learning_rate=0.01)
    found, rows = measured(model, tmp_path / "test.csv"), answered(model, tmp_path / "test.csv")
    gold = [kind for kind, _, _ in news(90, 90, [0.5, 0.3, 0.2, 0.0])]
    said = [row["label"] for row in rows]
    assert len(set(said)) > 1 and 0.3 < found["accuracy"] < 1 and "Sci/Tech" not in gold
    names = list(rows[0]["probabilities"])

    def scores(**more: object) -> list:
        return list(sk.precision_recall_fscore_support(gold, said, zero_division=0, **more))

    def named(values: list) -> dict[str, float]:
        return dict(zip(("precision", "recall", "f1"), values[:3], strict=True))

    each = {name: [column[i] for column in scores(labels=names)] for i, name in enumerate(names)}
    nothing = {"precision": None, "recall": None, "f1": None, "rows": 0}
    probabilities = np.array([[row["probabilities"][name] for name in names] for row in rows])
    expected = {
        "rows": 90,
        "loss": sk.log_loss(gold, probabilities / probabilities.sum(1, keepdims=True), labels=names),
        "accuracy": sk.accuracy_score(gold, said),
        **{average: named(scores(average=average)) for average in ("macro", "micro", "weighted")},
        "per_class": {
            name: {**named(each[name]), "rows": each[name][3]} if name in {*gold, *said} else nothing for name in names
        },
        "confusion_matrix": sk.confusion_matrix(gold, said, labels=names).tolist(),
        "ece": calibration_error(probabilities.max(1), np.array(gold) == said),
        "warnings": ["no row has the label 'Sci/Tech': the figures do not cover it"],
    }
    agree(found, expected)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    total = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


# SQuAD's evaluate-v2.0.py, function by function.
def normalize_answer(text: str) -> str:
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text).split())


def get_tokens(text: str) -> list[str]:
    return normalize_answer(text).split() if text else []


def compute_exact(gold: str, predicted: str) -> int:
    return int(normalize_answer(gold) == normalize_answer(predicted))


def compute_f1(gold: str, predicted: str) -> float:
    wanted, found = get_tokens(gold), get_tokens(predicted)
    same = sum((collections.Counter(wanted) & collections.Counter(found)).values())
    if not wanted or not found:
        return int(wanted == found)
    if not same:
        return 0
    precision, recall = same / len(found), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def get_raw_scores(questions: dict[str, dict], answers: dict[str, str]) -> tuple[dict[str, float], dict[str, float]]:
    exact, f1 = {}, {}
    for name, question in questions.items():
        gold = [answer["text"] for answer in question["answers"] if normalize_answer(answer["text"])] or [""]
        exact[name] = max(compute_exact(one, answers[name]) for one in gold)
        f1[name] = max(compute_f1(one, answers[name]) for one in gold)
    return exact, f1


def find_best_thresh(answers: dict, scores: dict, margins: dict, has_answer: dict) -> float:
    current = best = sum(not has for has in has_answer.values())
    for name in sorted(margins, key=lambda name: margins[name]):
        current += scores[name] if has_answer[name] else (-1 if answers[name] else 0)
        best = max(best, current)
    return 100 * best / len(scores)


def squad(rows: int, seed: int) -> dict:
    """Questions with several answers, with articles and marks in them, one of an article alone, and with none."""
    rng = np.random.default_rng(seed)
    paragraphs = []
    for number in range(rows):
        things = [str(word) for word in rng.permutation(["film", "plot", "cafe", "电影"])]
        says = [str(word) for word in rng.permutation(["a good", "the bad, dull", "not fine", "very unlikely"])]
        context = ". ".join(f"The {thing} is {what}" for thing, what in zip(things[:2], says[:2], strict=True)) + "!"
        questions = []
        for place, thing in enumerate((things[number % 2], things[2])):
            what = says[number % 2]
            wanted = [what, what.split()[-1], f"is {what}"] if number else ["The"]
            answers = [{"text": text, "answer_start": context.index(text)} for text in wanted]
            more = {"plausible_answers": answers, "answers": []} if place else {"answers": answers}
            questions.append({"id": f"q{number}-{place}", "question": f"{thing}?", "is_impossible": bool(place), **more})
        paragraphs.append({"context": context, "qas": questions})
    return {"version": "v2.0", "data": [{"title": "all", "paragraphs": paragraphs}]}


def asked(path: Path) -> dict[str, dict]:
    document = json.loads(path.read_text(encoding="utf-8"))
    return {qa["id"]: qa for part in document["data"] for paragraph in part["paragraphs"] for qa in paragraph["qas"]}


def test_answers_by_squads_own_script(checkpoint, tmp_path):
    for name, rows in (("train", 48), ("dev", 20), ("test", 24)):
        (tmp_path / f"{name}.json").write_text(json.dumps(squad(rows, rows), ensure_ascii=False), encoding="utf-8")
    more = {"max_length": 32, "max_question_length": 6, "doc_stride": 8, "epochs": 3}
    model = trained(checkpoint, tmp_path, ".json", task="answer", **more)
    found = measured(model, tmp_path / "test.json")
    questions = asked(tmp_path / "test.json")
    answers = {row["id"]: row["answer"] for row in answered(model, tmp_path / "test.json", "--id_column=id")}
    exact, f1 = get_raw_scores(questions, answers)

    def part(names: list[str]) -> dict[str, float]:
        of = {"exact_match": exact, "f1": f1}
        return {"rows": len(names), **{key: 100 * sum(each[name] for name in names) / len(names) for key, each in of.items()}}

    has = {name: bool(question["answers"]) for name, question in questions.items()}
    figures = json.loads((model / "metrics.json").read_text(encoding="utf-8"))["dev"]
    threshold = figures["no_answer_threshold"]
    expected = {
        **part(list(questions)),
        "answerable": part([name for name in questions if has[name]]),
        "unanswerable": part([name for name in questions if not has[name]]),
        "rules": "squad",
        "no_answer_threshold": threshold,
    }
    assert (
        5 < found["f1"] < 95 and found["exact_match"] < found["f1"] and 0 < sum(not a for a in answers.values()) < len(answers)
    )
    agree({name: value for name, value in found.items() if name != "warnings"}, expected)

    # The threshold was found on dev, as the script finds its best one.
    rows = answered(model, tmp_path / "dev.json", "--id_column=id")
    questions = asked(tmp_path / "dev.json")
    best = {row["id"]: row["n_best"][0]["answer"] for row in rows}
    margins = {row["id"]: row["no_answer"] for row in rows}
    has = {name: bool(question["answers"]) for name, question in questions.items()}
    assert figures["f1"] == pytest.approx(find_best_thresh(best, get_raw_scores(questions, best)[1], margins, has), abs=1e-6)
    assert [row["answer"] == "" for row in rows] == [row["no_answer"] > threshold for row in rows]


def pairs(rows: int, seed: int) -> list[tuple[str, str, float]]:
    """Two texts, and how alike they are, from 0 to 5."""
    rng = np.random.default_rng(seed)
    words = ["good", "bad", "film", "fine", "dull", "plot", "cafe", "x"]
    out = []
    for _ in range(rows):
        shared = int(rng.integers(0, 6))
        first = [str(word) for word in rng.permutation(words)]
        second = [*first[:shared], *rng.choice(words, 5 - shared)]
        out.append(
            (" ".join(first[:5]), " ".join(rng.permutation(second)), round(min(5, max(0, shared + rng.normal() / 2)), 2))
        )
    return out


def write_pairs(path: Path, rows: list[tuple[str, str, object]]) -> None:
    path.write_text("".join(f"{a}\t{b}\t{gold}\n" for a, b, gold in [("one", "other", "gold"), *rows]), encoding="utf-8")


PAIRS = {"task": "match", "text_columns": "one,other", "label_column": "gold"}


def test_grades_by_scipy(checkpoint, tmp_path):
    for name, rows in (("train", 96), ("dev", 24), ("test", 60)):
        write_pairs(tmp_path / f"{name}.tsv", pairs(rows, rows))
    model = trained(checkpoint, tmp_path, ".tsv", **PAIRS, scorer="cross")
    found, rows = measured(model, tmp_path / "test.tsv"), answered(model, tmp_path / "test.tsv")
    gold, scores = [grade for _, _, grade in pairs(60, 60)], [row["score"] for row in rows]
    expected = {"kind": "grades", "rows": 60, "pearson": pearsonr(gold, scores)[0], "spearman": spearmanr(gold, scores)[0]}
    assert 0.01 < abs(expected["pearson"]) < 0.99 and len(set(scores)) > 20
    agree(found, expected)


def test_labelled_pairs_and_ranks_by_scikit_learn(checkpoint, tmp_path):
    for name, rows in (("train", 96), ("dev", 24), ("test", 60)):
        write_pairs(tmp_path / f"{name}.tsv", [(a, b, int(grade > 2.5)) for a, b, grade in pairs(rows, rows)])
    model = trained(checkpoint, tmp_path, ".tsv", **PAIRS, scorer="dual")
    found, rows = measured(model, tmp_path / "test.tsv"), answered(model, tmp_path / "test.tsv")
    gold = [int(grade > 2.5) for _, _, grade in pairs(60, 60)]
    said, scores = [int(row["match"]) for row in rows], [row["score"] for row in rows]
    precision, recall, f1, _ = sk.precision_recall_fscore_support(gold, said, average="binary", zero_division=0)
    threshold = json.loads((model / "metrics.json").read_text(encoding="utf-8"))["dev"]["threshold"]
    expected = {
        "kind": "labels",
        "rows": 60,
        "accuracy": sk.accuracy_score(gold, said),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "roc_auc": sk.roc_auc_score(gold, scores),
        "confusion_matrix": sk.confusion_matrix(gold, said).tolist(),
        "threshold": threshold,
    }
    assert len(set(said)) == 2 and 0 < f1 < 1
    agree(found, expected)

    # Titles that look for their texts: the score of each with each, one of them with two.
    belong = [(a, b) for a, b, _ in pairs(12, 7)]
    belong.append((belong[0][0], pairs(13, 8)[-1][1]))
    titles, texts = (list(dict.fromkeys(column)) for column in zip(*belong, strict=True))
    write_pairs(tmp_path / "belong.tsv", [(a, b, 1) for a, b in belong])
    write_pairs(tmp_path / "all.tsv", [(a, b, 0) for a in titles for b in texts])
    table = np.array([row["score"] for row in answered(model, tmp_path / "all.tsv")]).reshape(len(titles), len(texts))
    own = np.zeros_like(table, bool)
    for a, b in belong:
        own[titles.index(a), texts.index(b)] = True
    best = np.where(own, table, -np.inf).max(1)
    places = 1 + ((table >= best[:, None]) & ~own).sum(1)
    ranked = {f"recall_at_{k}": float((places <= k).mean()) for k in (1, 5, 10)}
    ranked = {"kind": "retrieval", "titles": 12, "texts": len(texts), **ranked, "mrr": float((1 / places).mean())}
    assert len(set(places)) > 2
    agree(measured(model, tmp_path / "belong.tsv", "--label_column="), ranked)


NAMES = {
    "LOC": [["N.M."], ["St.", "film"]],
    "MISC": [["un-like"], ["good-bad"], ["Franco-African"]],
    "ORG": [["cafe"], ["fine.s.", "film", "x-e"]],
    "PER": [["dull"], ["e", "s."]],
}
Chunk = tuple[int, int, str]  # first token, behind the last, type


def sentences(rows: int, seed: int) -> list[tuple[list[str], list[Chunk]]]:
    """Tokens that are several words of BERT, and entities, some of which touch another of their type."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(rows):
        tokens: list[str] = []
        chunks = []
        for _ in range(int(rng.integers(1, 5))):
            tokens += [str(word) for word in rng.choice(["the", "is", "very", "not", "."], int(rng.integers(0, 3)))]
            kind = str(rng.choice(list(NAMES)))
            words = NAMES[kind if rng.random() < 0.9 else str(rng.choice(list(NAMES)))]
            name = words[int(rng.integers(len(words)))]
            chunks.append((len(tokens), len(tokens) + len(name), kind))
            tokens += name
        out.append(([*tokens, "plot"], chunks))
    return out


def written(chunks: list[Chunk], count: int, scheme: str) -> list[str]:
    """Entities as tags."""
    tags, before = ["O"] * count, (0, 0, "")
    for first, behind, kind in chunks:
        inner = ["I"] * (behind - first)
        if scheme == "IOB2" or (scheme == "IOB1" and before[1:] == (first, kind)):
            inner[0] = "B"
        elif scheme == "IOBES":
            inner = ["B", *inner[1:-1], "E"] if len(inner) > 1 else ["S"]
        tags[first:behind] = [f"{letter}-{kind}" for letter in inner]
        before = first, behind, kind
    return tags


def chunks_of(tags: list[str]) -> list[Chunk]:
    """The entities of tags in IOB2."""
    ends = [i for i, (tag, after) in enumerate(zip(tags, [*tags[1:], "O"], strict=True)) if tag != "O" and after[0] != "I"]
    starts = [i for i, tag in enumerate(tags) if tag[0] == "B"]
    return [(first, last + 1, tags[first][2:]) for first, last in zip(starts, ends, strict=True)]


def write_conll(path: Path, rows: list[tuple[list[str], list[Chunk]]], scheme: str) -> list[list[str]]:
    """Columns as CoNLL-2003 has them; returns the tags."""
    tags = [written(chunks, len(tokens), scheme) for tokens, chunks in rows]
    blocks = ["-DOCSTART- -X- -X- O\n"]
    blocks += [
        "".join(f"{t} NN I-NP {tag}\n" for t, tag in zip(row[0], of, strict=True)) for row, of in zip(rows, tags, strict=True)
    ]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return tags


def test_entities_by_seqeval(checkpoint, tmp_path):
    """Over the file's tokens, in its own scheme; also where its tags break the scheme."""
    write_conll(tmp_path / "train.conll", sentences(160, 1), "IOB2")
    write_conll(tmp_path / "dev.conll", sentences(20, 2), "IOB2")
    columns = {"columns": "token,pos,chunk,tag", "label_column": "tag", "text_columns": "token"}
    model = trained(
        checkpoint, tmp_path, ".conll", task="tag", **columns, max_length=30, stride=8, epochs=12, learning_rate=0.01
    )
    rows = sentences(50, 3)
    types = sorted(NAMES)
    for scheme in ("IOB1", "IOB2", "IOBES", "broken"):
        path = tmp_path / f"{scheme}.conll"
        gold = write_conll(path, rows, "IOB2" if scheme == "broken" else scheme)
        if scheme == "broken":  # every third sentence begins its entities with I-
            gold = [[tag.replace("B-", "I-") for tag in tags] if i % 3 == 0 else tags for i, tags in enumerate(gold)]
            lines = path.read_text(encoding="utf-8").split("\n\n")
            lines[1::3] = [block.replace(" B-", " I-") for block in lines[1::3]]
            path.write_text("\n\n".join(lines), encoding="utf-8")
        found, answers = measured(model, path), answered(model, path)
        assert [row["tokens"] for row in answers] == [tokens for tokens, _ in rows]
        chunks = [chunks_of(row["tags"]) for row in answers]
        other = "IOB2" if scheme == "broken" else scheme
        said = [written(of, len(tags), other) for of, tags in zip(chunks, gold, strict=True)]

        def named(values: tuple) -> dict[str, float]:
            return {name: float(value) for name, value in zip(("precision", "recall", "f1"), values, strict=False)}

        def default(average: str | None, gold=gold, said=said) -> tuple:
            return seqeval.precision_recall_fscore_support(gold, said, average=average, zero_division=0)

        strict = v1.precision_recall_fscore_support(
            gold, said, average="micro", zero_division=0, scheme=getattr(schemes, other)
        )
        each = {kind: [column[i] for column in default(None)] for i, kind in enumerate(types)}
        places = [[{(a, b): kind for kind, a, b in seqeval.get_entities(tags)} for tags in side] for side in (gold, said)]
        names = ["O", *types]
        confusion = np.zeros((5, 5), int)
        for at, of in zip(*places, strict=True):
            for place in {*at, *of}:
                confusion[names.index(at.get(place, "O")), names.index(of.get(place, "O"))] += 1
        expected = {
            "rows": 50,
            "micro": named(default("micro")),
            "macro": named(default("macro")),
            "strict": named(strict),
            "token_accuracy": seqeval.accuracy_score(gold, said),
            "per_type": {
                kind: {**named(each[kind]), "gold": each[kind][3], "predicted": confusion[:, 1 + i].sum()}
                for i, kind in enumerate(types)
            },
            "gold": confusion[1:].sum(),
            "predicted": confusion[:, 1:].sum(),
            "confusion": confusion.tolist(),
        }
        assert 0.1 < expected["micro"]["f1"] < 0.99
        assert (scheme == "broken") == (expected["strict"] != pytest.approx(expected["micro"], abs=1e-9))
        agree(found, expected)
