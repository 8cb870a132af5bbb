"""The page: whole in itself, its numbers those of the JSON file, for every kind of run."""

import base64
import dataclasses
import html.parser
import json
import re
import types

import numpy as np
import pytest
from matplotlib import colors

from semivit_jax import files
from semivit_jax.data.dataset import open_as_begun
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.inference.grades import Calibrated
from semivit_jax.main import main
from semivit_jax.ops.scores import Bin
from semivit_jax.report import facts, figures, gather, look, make, page, sample, space, suspects
from semivit_jax.training import run
from tests.configs import small_config
from tests.report.made import made_up, png, tiny_run

pytestmark = pytest.mark.xdist_group("report")  # programs are shared
HOSTILE = ["<script>alert(1)</script>.png", '"onerror=x.png', "..%2e%2e", "a\u202eb.png", "caf\udce9.png", "x" * 255]


class Page(html.parser.HTMLParser):
    """What stands in a page: tags with their attributes, numbers with their keys, and text outside of style."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.numbers, self.text, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "data":
            self.numbers.append((attributes["data-key"], attributes["value"], data))
        if tag != "style":
            self.text.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def at(report, key):
    for part in key.split("."):
        report = report[int(part)] if isinstance(report, list) else report[part]
    return report


def check(text, report):
    """Returns the page, after what holds for every one of them."""
    found = Page(text)
    assert found.numbers
    for key, value, shown in found.numbers:
        assert value == str(at(report, key)), key
        kind = next(kind for kind, told in page.FORMATS.items() if told(float(value)) == shown or
                    told(int(float(value))) == shown)  # fmt: skip
        assert kind
    for tag, attributes in found.tags:
        assert tag not in ("script", "iframe", "object", "link") or attributes.get("href") == "data:,"
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "img" or attributes["alt"]
    assert not re.search(r"url\(|@import", text)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"] for t, a in found.tags if t == "a"} <= {f"#{one}" for one in ids}
    return found


def read(folder):
    """Page and numbers that lie in a workdir."""
    report = json.loads((folder / make.NUMBERS).read_text())
    return check((folder / make.PAGE).read_text(), report), report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Stages -> (folder, page, numbers) of a run, made once."""
    kept = {}

    def make_it(*stages):
        if stages not in kept:
            folder = tiny_run(tmp_path_factory.mktemp("runs") / "my run", *stages)
            make.make(folder, most=40 if stages == ("finetune",) else 15)  # of few, the map is made in no time
            kept[stages] = (folder, *read(folder))
        return kept[stages]

    return make_it


@pytest.fixture
def sketched(monkeypatch):
    """Figures without their drawing, half of a page's time, where a test reads its words alone."""
    monkeypatch.setattr(figures, "_encoded", lambda figure, *given, **named: "data:,")


def test_a_run_of_one_stage(made):
    _, found, report = made("finetune")
    assert report["run"]["state"] == "finished"
    assert (
        "From 40 labeled images and 1,397 without a label the model has learned to tell 10 classes apart" in found.said
    )
    assert [row["method"] for row in report["accuracy"]] == ["LabelSpreading", "fine-tuning only"]
    assert report["accuracy"][1]["acc1"] == 0.45
    assert report["accuracy"][1]["low"] < 0.45 < report["accuracy"][1]["high"]
    for heading in ("Accuracy", "Training", "Classes", "Answers", "The data", "Map", "What to do next"):
        assert heading in found.said
    assert {one["role"] for one in report["labels"]["judges"]} == {"labeled", "evaluation"}
    assert [one["is_fitted"] for one in report["labels"]["judges"]] == [True, False]
    assert "of the labels as they are. Of the others" in found.said
    assert "of weights that have learned these labels" in found.said
    assert report["map"]["num_images"] == 120
    assert len([t for t, a in found.tags if a.get("class") == "photo"]) > 50
    assert report["absent"] == {look.PROBES: "the run began with random weights, whose features tell nothing"}
    assert "Without k-NN and linear probe: the run began with random weights" in found.said
    assert not re.search(r"\d%", found.said)  # a space, everywhere


def test_a_run_that_pre_trains_alone(made):
    _, found, report = made("mae")
    assert "looked at 1,437 images without any label" in found.said
    assert "its error fell from 2.3 to 1.2" in found.said
    assert report["accuracy"] == []
    assert "what it makes of it" in found.said
    assert report["grades"] is None
    assert report["map"]["num_images"] > 0


def test_a_run_with_unlabeled_images_says_what_they_brought(made):
    _, found, report = made("finetune", "semi")
    assert [row["method"] for row in report["accuracy"]][1:] == [
        "fine-tuning only", "Semi-ViT, student", "Semi-ViT, teacher (EMA)",
    ]  # fmt: skip
    assert report["brought"]["from"] == "fine-tuning only"
    assert report["brought"]["points"] == pytest.approx(5.0)
    assert "fine-tuning only reaches 45.0 %. The unlabeled images brought +5.0 points" in found.said
    assert "mixed: what the student learns from" in found.said
    assert re.search(r"\d %, \d: \d+ %", found.said)  # the classes of a soft target
    assert not re.search(r"\d%", found.said)
    moved = next(one for one in report["advice"] if "config.semi.confidence_threshold" in one["do"])
    assert moved["do"].startswith("Label more images, or start from better weights")
    half = next(row["acc1"] for row in report["coverage"]["chosen"] if abs(row["coverage"] - 0.5) < 0.1)
    assert half < 0.3  # fresh weights
    assert f"of the surer half of the answers to evaluation images {100 * half:.0f} % are right" in moved["why"]
    titles = [a["alt"] for t, a in found.tags if t == "img" and a["alt"].startswith("Line chart")]
    assert any("Pseudo labels: share kept from 10.0 %" in title for title in titles)


def test_a_run_that_goes_on(tmp_path):
    """Its numbers alone: weights and images are looked at as of a finished one."""
    folder = tiny_run(tmp_path / "run", "finetune", "semi", done=False)
    run_now, nothing = facts.read(folder), look.Looked()
    report = gather.numbers(run_now, nothing)
    found = check(page.render(report, run_now, nothing), report)
    assert report["run"]["state"] == "stopped"
    assert "It has stopped before its end: semi, update 6 of 12." in found.said
    assert report["accuracy"][-1]["method"] == "Semi-ViT, teacher (EMA), so far (update 6)"
    assert report["advice"][0]["do"] == "Start the same command again."
    assert not (folder / "summary.json").exists()


def test_ten_images_are_shown_also_of_small_mixing_groups(tmp_path):
    one = facts.read(tiny_run(tmp_path / "run", "finetune", "semi"))
    section = dataclasses.replace(one.config.stage("semi"), batch_size=8, mixup_group_size=2, unlabeled_ratio=3)
    one = dataclasses.replace(one, config=one.config.with_stage("semi", section))
    _, plan = look._few(one, open_as_begun(one.config, workdir=one.folder, label_free=("mae",)), "semi")
    assert (plan.batch_size, plan.group_size) == (4, 2)  # 12 unlabeled ones


@pytest.mark.usefixtures("sketched")
def test_a_run_that_goes_on_says_which_checkpoint_answers(tmp_path):
    """Its newest evaluation may be of a later update, and then the two accuracies differ."""
    several, looked = made_up(tmp_path / "run", ["cat", "dog"], file_names=["a.png", "b.png", "c.png"])
    told = "These are the answers of the newest checkpoint, of update 6;"
    assert told not in rendered(several, looked)[1].said
    assert told in rendered(dataclasses.replace(several, state=facts.TRAINS), looked)[1].said


def test_a_run_that_has_only_begun(tmp_path):
    folder = tiny_run(tmp_path / "new", "finetune", done=False)
    files.remove(folder / "finetune")
    begun = facts.read(folder)
    looked = look.at(begun, most=10)
    found = Page(page.render(gather.numbers(begun, looked), begun, looked))
    assert "it has not been evaluated yet" in found.said
    assert "finetune has not begun" in found.said


@pytest.mark.usefixtures("sketched")
def test_a_run_whose_images_are_gone_keeps_its_numbers(tmp_path, monkeypatch):
    folder = tiny_run(tmp_path / "run", "finetune")

    def gone(*given, **named):
        raise OSError("the folder photos is not there")

    monkeypatch.setattr(look, "open_as_begun", gone)
    monkeypatch.setattr(look, "grade", gone)
    make.make(folder, most=10)
    found, report = read(folder)
    assert report["absent"]["images"] == "the folder photos is not there"
    assert "the folder photos is not there" in found.said
    assert report["accuracy"][-1]["acc1"] == 0.45


def test_the_numbers_are_those_of_eval(made, tmp_path):
    folder, _, report = made("finetune")
    out = tmp_path / "eval.json"
    assert main(["semivit", "eval", f"--workdir={folder}", f"--out={out}"]) == 0
    assert json.loads(out.read_text()) == report["grades"]
    assert report["answers"]["acc1"] == report["grades"]["results"]["ema_params"]["acc1"]
    assert sum(row["right"] for row in report["classes"]) == round(360 * report["answers"]["acc1"])


def rendered(one, looked):
    report = json.loads(json.dumps(gather.numbers(one, looked)))
    text = page.render(report, one, looked)
    return text, check(text.encode(errors="backslashreplace").decode(), report), report


@pytest.mark.usefixtures("sketched")
def test_calibration_is_shown_before_and_after(tmp_path):
    """As trained and at the temperature; without one, as trained alone."""
    several, looked = made_up(tmp_path / "run", ["cat", "dog"], file_names=["a.png", "b.png", "c.png"])
    _, before, _ = rendered(several, looked)
    assert "differ by 20.0 % on average" in before.said
    assert "temperature" not in before.said
    scores = dataclasses.replace(looked.grades.found["params"], ece=0.05, bins=(Bin(1, 0.5, 0.0), Bin(2, 0.6, 0.5)))
    grades = dataclasses.replace(looked.grades, calibrated={"params": Calibrated(1.7, scores)})
    _, after, report = rendered(several, dataclasses.replace(looked, grades=grades))
    assert "The temperature 1.70 , fitted on validation images, lowers that to 5.0 % ." in after.said
    assert report["calibration"]["after"]["bins"][1] == {"count": 2, "confidence": 0.6, "acc1": 0.5}
    for ece, said in ((0.3, "raises that to 30.0 % , for it is chosen by the log loss, which goes from 1.50 to 1.50"),
                      (0.2, "keeps that at 20.0 % .")):  # fmt: skip
        grades.calibrated["params"] = Calibrated(1.7, dataclasses.replace(scores, ece=ece))
        assert said in rendered(several, dataclasses.replace(looked, grades=grades))[1].said


def looked_at(looked, num_classes, *, count=400):
    """The same, with a map of images of so many classes, and a judge that knows little of their labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, num_classes, count).astype(np.int32)
    images = ImageSet([png(0)] * count, [f"{k}.png" for k in range(count)], labels)
    seen = sample.Seen("labeled", images, np.arange(count), np.zeros((count, 2), np.float32))
    weak = suspects.Judged(seen, count, 0.24, 0.64, is_fitted=False, suspects=[suspects.Suspect(3, 1, 0.1, 0.5)])
    names = [f"class {k}" for k in range(num_classes)]
    return dataclasses.replace(
        looked,
        task=types.SimpleNamespace(class_names=names),
        sample={"labeled": seen},
        judged={"labeled": weak},
        layout=space.Layout(generator.normal(size=(count, 2)), np.arange(count), "t-SNE"),
    )


@pytest.mark.parametrize(("num_classes", "coloured"), [(10, 10), (200, 20)])
def test_the_map_has_a_key_to_its_colours(num_classes, coloured, tmp_path):
    several, looked = made_up(tmp_path / "run", ["cat", "dog"], file_names=["a.png", "b.png", "c.png"])
    text, found, report = rendered(several, looked_at(looked, num_classes))
    dots = re.findall(r'<span class="dot" style="background: (#\w{6})"></span><span>([^<]+)\(', text)
    named = [name.strip() for colour, name in dots if colour != figures.NO_COLOUR]
    assert named == [one["name"] for one in report["map"]["classes"]]
    assert len({colour for colour, _ in dots if colour != figures.NO_COLOUR}) == len(named) == coloured
    others = report["map"]["num_of_other_classes"]
    assert sum(one["num_images"] for one in report["map"]["classes"]) + others == 400
    assert ("other classes" in found.said) == (num_classes > coloured) == (others > 0)
    assert "label was learned from ( 400 )" in found.said


def test_the_colours_of_the_map_are_those_of_its_key(monkeypatch):
    """The first class of the key has the first colour in the picture, and so on."""
    drawn = []
    monkeypatch.setattr(figures, "_encoded", lambda figure, *given, **named: drawn.append(figure) or "data:")
    labels = np.array([0, 1, 2, -1])
    figures.embedding(np.eye(4, 2), labels, np.zeros(4, bool), ["a", "b", "c"])
    painted = [colors.to_hex(c.get_facecolor()[0]) for c in drawn[0].axes[0].collections if len(c.get_offsets())]
    assert painted == [figures.NO_COLOUR, *figures.MAP_COLOURS[:3]]


def test_names_on_the_map_hide_no_other():
    """Of two classes in one place the more frequent one is named there; the key names both."""
    points = np.array([[0, 0], [0, 0], [0, 0.01], [1, 1], [0.02, 0]], float)
    named = figures._apart(points, np.array([1, 1, 0, 2, -1]), ["cat", "dog", "ship"])
    assert [name for name, _ in named] == ["dog", "ship"]
    assert figures._apart(np.zeros((0, 2)), np.zeros(0, int), []) == []


@pytest.mark.usefixtures("sketched")
def test_a_judge_that_knows_little_calls_no_label_wrong_and_says_why(tmp_path):
    several, looked = made_up(tmp_path / "run", ["cat", "dog"], file_names=["a.png", "b.png", "c.png"])
    _, found, report = rendered(several, looked_at(looked, 10))
    assert "Of 400 labeled images it guesses 24.0 % of the labels as they are. That is too few" in found.said
    assert "below 64.0 % most of its suspicions would be false" in found.said
    assert "may be wrong" not in found.said
    assert not [one for one in report["advice"] if "may be wrong" in one["do"]]


@pytest.mark.usefixtures("sketched")
def test_the_head_names_the_recipe_and_the_end_what_was_changed(tmp_path):
    several, looked = made_up(tmp_path / "run", ["cat", "dog"], file_names=["a.png", "b.png", "c.png"])
    log = dataclasses.replace(several.config.log, recipe="own_folder with a.b=1, c.d=(2, 3)")
    several = dataclasses.replace(several, config=dataclasses.replace(several.config, log=log))
    text, found, _ = rendered(several, looked)
    head = Page(text.partition("</header>")[0]).said
    assert "recipe own_folder with changes ·" in head
    assert "a.b=1" not in head
    assert "own_folder with a.b=1, c.d=(2, 3)" in found.said


def test_a_phone_gets_a_narrower_figure_of_the_methods(made):
    _, found, _ = made("finetune")
    (source,) = [a for t, a in found.tags if t == "source"]
    assert source["media"] == "(max-width: 40rem)"
    at = [t for t, _ in found.tags].index("source")
    wide = found.tags[at + 1][1]
    sizes = [float(re.search(r'width="([\d.]+)pt"', svg(one)).group(1)) for one in (source["srcset"], wide["src"])]
    assert sizes[0] < 270 < 500 < sizes[1]  # points of a phone's 358 pixels


def svg(address):
    return base64.b64decode(address.partition(",")[2]).decode()


@pytest.mark.parametrize(
    ("num_classes", "labels", "said"),
    [
        (10**7, [0, 1, 0, 1], "a fit to 10,000,000 classes would take too long"),
        (2, [1, 1, 1, 1], "the labeled images are of one class"),
    ],
)
def test_why_there_is_no_probe_is_told(num_classes, labels, said):
    images = ImageSet([b""] * 4, list("abcd"), np.array(labels, np.int32))
    seen = sample.Seen("labeled", images, np.arange(4), np.ones((4, 8), np.float32))
    looked = look.Looked()
    found = {"labeled": seen, "evaluation": seen}
    assert looked.attempt(look.PROBES, lambda: look._probe(found, num_classes, 0)) is None
    assert looked.absent == {look.PROBES: said}


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.95, "0.95"), (0.1, "0.10"), (0.0, "0.00"), (0.00361, "0.0036"), (-0.02, "-0.02"), (1.7, "1.70")],
)
def test_a_small_confidence_is_not_told_as_none(value, told):
    assert page.FORMATS["share"](value) == told


def test_names_from_outside_are_text_and_nothing_else(tmp_path):
    text, found, _ = rendered(*made_up(tmp_path / "run", ["<b>cat</b>", "dog & co", "a\u202eb"], file_names=HOSTILE))
    assert "<script>alert(1)</script>.png" in found.said
    assert "<b>cat</b>" in found.said
    assert "\u202e" not in text
    assert "caf\\udce9.png" in found.said


def test_runs_are_compared(made, tmp_path, capsys):
    first, second = made("finetune")[0], made("finetune", "semi")[0]
    out = tmp_path / "both.html"
    assert main(["semivit", "report", str(first), str(second), f"--out={out}"]) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    found = check(out.read_text(), report)
    assert {"key": "stages", "values": ["('finetune',)", "('finetune', 'semi')"]} in report["settings"]
    (row,) = report["differences"]
    assert row["num_images"] == 360
    assert row["low"] < row["points"] < row["high"]
    assert row["gained"] - row["lost"] == round(3.6 * row["points"])
    assert "Is the difference more than chance?" in found.said
    assert f"comparison: {out}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "name a run: --workdir=DIR"),
        (["a", "--most=0"], "--most is 0; at least 1"),
        (["a", "--out=x.html"], "--out is for comparisons"),
    ],
)
def test_a_wrong_command_line_is_told(argv, said, capsys):
    assert main(["semivit", "report", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_told(tmp_path, capsys):
    assert main(["semivit", "report", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err


# ---- at the end of a run


def test_what_goes_wrong_is_one_line_and_no_failure(tmp_path, monkeypatch, capsys):
    folder = tiny_run(tmp_path / "my run", "finetune")
    config = facts.read(folder).config

    def broken(*given, **named):
        raise RuntimeError("out of memory\nand a long story")

    monkeypatch.setattr(make, "make", broken)
    make.at_the_end(config, folder, anew=True)
    assert capsys.readouterr().out == (f"no report: out of memory; later: semivit report --workdir='{folder}'\n")


def test_a_package_that_is_missing_is_named_with_its_remedy(tmp_path, monkeypatch, capsys):
    folder = tiny_run(tmp_path / "run", "finetune")
    monkeypatch.setattr(page, "NEEDED", ("jinja2", "no_such_package"))
    assert main(["semivit", "report", str(folder)]) == 1
    assert "needs jinja2 and no_such_package: " in capsys.readouterr().err
    make.at_the_end(facts.read(folder).config, folder, anew=True)
    assert capsys.readouterr().out.startswith("no report: a report needs jinja2 and no_such_package: ")


def test_a_finished_run_names_the_report_it_has(tmp_path, monkeypatch, capsys):
    folder = tiny_run(tmp_path / "run", "finetune")
    (folder / make.PAGE).touch()
    monkeypatch.setattr(make, "make", None)
    make.at_the_end(facts.read(folder).config, folder, anew=False)
    assert capsys.readouterr().out == f"report: {folder / make.PAGE}\n"


@pytest.mark.parametrize("was_done", [False, True])
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads a config
def test_train_ends_with_the_report(was_done, tmp_path, monkeypatch, capsys):
    folder = tiny_run(tmp_path / "run", "finetune", done=was_done)

    def train(config, workdir, *, notes):
        (workdir / "DONE").touch()

    asked = []
    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(make, "at_the_end", lambda config, workdir, *, anew: asked.append((workdir, anew)))
    assert main(["semivit", "train", "--config=digits", f"--workdir={folder}"]) == 0
    assert asked == [(folder, not was_done)]


def test_a_run_may_do_without(tmp_path, monkeypatch, capsys):
    folder = tiny_run(tmp_path / "run", "finetune")
    monkeypatch.setattr(make, "make", None)
    make.at_the_end(small_config(**{"log.report": False}), folder, anew=True)
    assert capsys.readouterr().out == ""
