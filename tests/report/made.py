"""Workdirs and answers made up in a moment, for reports on all kinds of runs."""

import io
import json

import numpy as np
from PIL import Image

from semivit_jax import files
from semivit_jax.data.dataset import open_task
from semivit_jax.data.sources.image_set import ImageSet
from semivit_jax.inference.grades import PROTOCOLS, Answers, Grades
from semivit_jax.ops.confusion import count as count_confusion
from semivit_jax.ops.scores import Bin, Scores
from semivit_jax.report import facts
from semivit_jax.report.look import Looked
from tests.serve.runs import TINY, write_run

LINES = [
    {"step": 2, "train/loss": 2.3, "train/lr": 1e-3, "perf/step_seconds": 0.5, "perf/input_wait_frac": 0.1,
     "val/acc1": 0.2, "val/loss": 2.2},
    {"step": 4, "train/loss": 1.7, "train/lr": 2e-3, "perf/step_seconds": 0.4, "perf/input_wait_frac": 0.2,
     "val/acc1": 0.4, "val/loss": 2.0},
    {"step": 6, "train/loss": 1.2, "train/lr": 1e-3, "perf/step_seconds": 0.4, "perf/input_wait_frac": 0.2,
     "val/acc1": 0.45, "val/loss": 1.9},
]  # fmt: skip
PSEUDO = {"val_ema/acc1": 0.5, "train/mask_rate": 0.1, "train/pseudo_label_acc": 0.9, "train/teacher_acc": 0.5,
          "train/confidence_q10": 0.2, "train/confidence_q50": 0.4, "train/confidence_q90": 0.6,
          "train/loss_labeled": 0.5, "train/loss_unlabeled": 1.0}  # fmt: skip


def tiny_run(folder, *stages, done=True, graded="finetune"):
    """A workdir of these stages, the last of which has a checkpoint of fresh weights."""
    settings, _, _ = write_run(folder, stage=stages[-1], stages=stages, keep_ema=STAGE_KEEPS_EMA[stages[-1]])
    place = files.path(folder)
    open_task(settings, workdir=place, label_free=("mae",))
    for stage in stages:
        write_stage(folder / stage, stage, done=done or stage != stages[-1])
    if done:
        (folder / "DONE").touch()
        summary = {"baselines": {"label_spreading": {"acc1": 0.9}}, "remarks": ["a remark"]}
        (folder / "summary.json").write_text(json.dumps(summary))
    return place


STAGE_KEEPS_EMA = {"mae": False, "finetune": True, "semi": True}


def write_stage(folder, stage, *, done):
    """Metrics and plan of a stage."""
    folder.mkdir(exist_ok=True)
    hidden = "val" if stage == "mae" else "-"
    lines = [{k: v for k, v in line.items() if not k.startswith(hidden)} for line in LINES]
    if stage == "semi":
        lines = [line | PSEUDO for line in lines]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "plan.json").write_text(json.dumps({"total_steps": 6 if done else 12}))
    if done:
        (folder / "report.json").write_text(json.dumps({"seconds": 3.0, **lines[-1]}))
        (folder / "DONE").touch()


def made_up(folder, names, *, file_names, seed=0):
    """(run, what was found) of a classifier of these classes that answers some of the images wrongly."""
    run = facts.read(tiny_run(folder, "finetune"))
    run = facts.dataclasses.replace(run, listing={**run.listing, "class_names": list(names)}, labeled=[4] * len(names))
    generator, count, num = np.random.default_rng(seed), len(file_names), len(names)
    labels = generator.integers(0, num, count).astype(np.int32)
    guesses = np.stack([labels, (labels + 1) % num], axis=1)
    guesses[::3] = guesses[::3, ::-1]
    probs = np.sort(generator.random((count, 2)), axis=1)[:, ::-1].astype(np.float32) / 2
    confusion = count_confusion(labels, guesses[:, 0], num_classes=num)
    share = float(confusion.right.sum() / count)
    pairs = zip(confusion.right.tolist(), confusion.per_class.tolist(), strict=True)
    shares = tuple(right / images if images else None for right, images in pairs)
    pictures = [png(k) for k in range(min(count, 100))]
    images = ImageSet([pictures[k % 100] for k in range(count)], list(file_names), labels)
    grades = Grades(
        source="run/finetune/checkpoints/6",
        dataset="own_folder",
        split="validation",
        protocol=PROTOCOLS["head"],
        class_names=tuple(names),
        found={"params": Scores(count, share, 1.0, 1.5, 0.2, share, shares, confusion, (Bin(count, 0.4, share),))},
        images=images,
        answers={"params": Answers(np.arange(count), labels, guesses, probs)},
        calibrated={},
        labeled=None,
    )
    return run, Looked(grades=grades)


def png(seed: int, *, side: int | None = None) -> bytes:
    """A small picture of noise, 12 x 9 pixels or a square."""
    shape = (9, 12, 3) if side is None else (side, side, 3)
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(file, "PNG")
    return file.getvalue()


__all__ = ["TINY", "made_up", "tiny_run"]
