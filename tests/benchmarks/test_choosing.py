"""What a choice of labels is worth: the table, on features where the answer is known."""

import numpy as np

from benchmarks import choosing


def test_where_features_are_the_classes_every_protocol_is_right():
    """Ten clusters far apart, of one class each: what is farthest from all chosen ones finds all of them."""
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 10
    features = (np.eye(16)[labels] + generator.normal(0, 0.03, (300, 16))).astype(np.float32)
    names = [f"{place}.jpg" for place in range(300)]
    part = choosing.Part(features, labels, names)
    accuracies, classes, _ = choosing._once("coreset", part, part, seed=0)
    assert classes == 10
    assert min(accuracies) >= 99.0
    drawn, seen, _ = choosing._once("random", part, part, seed=0)
    assert seen < 10
    assert drawn[0] == 10 * seen


def test_a_missing_folder_is_one_line(monkeypatch, capsys):
    monkeypatch.delenv("DATA", raising=False)
    assert choosing.main(["folder", "--workdir=weights", "--out=scratch"]) == 2
    assert capsys.readouterr().err.splitlines() == ["DATA=FOLDER must name a folder with train/CLASS and test/CLASS"]
