"""The command line of `semivit label`: what is refused before anything is served, and what is served first."""

import pytest

from semivit_jax.cli import label
from semivit_jax.data.sources.label_paths import Images
from semivit_jax.hosts import extras
from semivit_jax.labeling import serving
from semivit_jax.main import main


@pytest.fixture
def command(photos, tmp_path, monkeypatch):
    """Runs the command with more flags; nothing is served, but what would be is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    served = []

    def serve(application, opened, *, started):
        started()
        opened.close()
        served.append(application)

    monkeypatch.setattr(serving, "serve", serve)

    def run(*flags, images=photos):
        code = main(
            ["semivit", "label", f"--images={images}", f"--labels={tmp_path / 'labels.csv'}", "--port=0", *flags]
        )
        return code, served

    return run


def test_the_address_is_told_and_stays_the_same(command, capsys):
    assert command("--classes=oak, ash")[0] == 0
    first = capsys.readouterr().out
    assert "13 images, 0 with a label in" in first
    assert command()[0] == 0
    token = [
        line.split("/")[3] for line in (first + capsys.readouterr().out).splitlines() if "http://127.0.0.1:" in line
    ]
    assert len(token) == 2
    assert token[0] == token[1]
    assert len(token[0]) >= 32


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (("--port=70000",), 2, "--port is 70000; 0 (any) to 65535"),
        (("--classes=oak,-none-",), 2, "--classes: -none- is what stands for no class"),
        (("--classes=NaN",), 2, "--classes: 'NaN' is what programs write for no value"),
        (("--todo=TMP/none.csv",), 1, "cannot be read: No such file"),
        (("--todo=TMP/other.csv",), 1, "names not one image of"),
        (("--embedding=TMP/none",), 1, "holds no finished embedding"),
        (("--from=TMP/other.csv",), 1, "has not the columns path, label, confidence"),
        (("--from=TMP/none",), 1, "none"),
    ],
)
def test_what_is_refused(command, tmp_path, capsys, flags, code, told):
    (tmp_path / "other.csv").write_text("path,label\nelsewhere.png,\n")
    found, served = command(*(flag.replace("TMP", str(tmp_path)) for flag in flags))
    assert found == code
    assert told in capsys.readouterr().err
    assert not served


def test_a_missing_folder_and_a_missing_extra_are_named(command, tmp_path, capsys, monkeypatch):
    assert command(images=tmp_path / "none")[0] == 1
    assert "is not a folder" in capsys.readouterr().err
    monkeypatch.setattr(extras, "installed", lambda extra: extra != "label")
    assert command()[0] == 1
    assert "semivit label needs Starlette and uvicorn: " in capsys.readouterr().err


def test_files_that_cannot_be_shown_are_told(command, photos, capsys):
    (photos / "cut.png").write_bytes(b"")
    assert command()[0] == 0
    told = capsys.readouterr().out
    assert "1 file cannot be shown:" in told
    assert "'cut.png' is empty" in told


def test_the_order_of_what_is_to_do(photos, tmp_path):
    todo = tmp_path / "todo.csv"
    todo.write_text("path,label\nsub/d.png,\ngone.png,\na.png,oak\nsub/d.png,\n")
    assert label._order(todo, Images(photos, ["a.png", "b.png", "sub/d.png"])) == [2, 0]


def test_a_port_that_is_taken_gives_another(command):
    with serving.listening(0) as first:
        first.listen()
        with serving.listening(first.getsockname()[1]) as second:
            assert second.getsockname()[1] != first.getsockname()[1]
            assert second.getsockname()[0] == "127.0.0.1"
