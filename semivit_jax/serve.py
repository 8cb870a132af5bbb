"""`semivit predict`, `semivit export` and `semivit eval`: finished weights at work; flags in, exit code out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax

from semivit_jax import console, eval_report
from semivit_jax.checkpoints.workdir import STAGE_ORDER
from semivit_jax.commands import USAGE_ERRORS, guarded, parse_config, usage_error
from semivit_jax.data.dataset import ROLES
from semivit_jax.export import FORMATS, export
from semivit_jax.export.bundle import Bundle
from semivit_jax.inference import grade
from semivit_jax.inference.grade import PROTOCOLS
from semivit_jax.inference.predict import class_names_of, load
from semivit_jax.inference.predict_folder import predict_folder, report
from semivit_jax.inference.trained import KEPT, TREES, Trained, load_trained
from semivit_jax.weights.facts import MaeFacts

EXPECTED_ERRORS = (ValueError, ImportError)  # of weights that do not fit a request, beside those of every command


def predict(argv: Sequence[str]) -> int:
    """Predicts a folder of images into a CSV file."""
    parser = source_parser("predict", "Predict every image of a folder.")
    parser.add_argument("--images", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--out", required=True, type=Path, metavar="CSV", help="file to write; replaced if it exists")
    parser.add_argument("--batch_size", type=int, default=64, help="images per forward pass")
    flags = parser.parse_args(argv)
    if flags.batch_size < 1:
        return usage_error("predict", ValueError(f"--batch_size is {flags.batch_size}; at least 1"))

    def action() -> None:
        predictor = load(
            flags.workdir, weights=flags.weights, use=flags.use, stage=flags.stage, batch_size=flags.batch_size
        )
        report(predict_folder(predictor, flags.images, flags.out), flags.out, predictor.source)

    return guarded(action, also=EXPECTED_ERRORS)


def export_weights(argv: Sequence[str]) -> int:
    """Writes a trained classifier in a format that other tools read."""
    parser = source_parser("export", "Write a trained classifier for other tools.")
    parser.add_argument("--format", required=True, choices=tuple(FORMATS))
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write, new or empty")
    flags = parser.parse_args(argv)

    def action() -> None:
        trained = load_trained(flags.workdir, kept=flags.weights, tree=flags.use, stage=flags.stage)
        export(flags.out, flags.format, bundle_of(trained))
        console.say(f"wrote {flags.out} ({flags.format}) from {trained.source}")

    return guarded(action, also=EXPECTED_ERRORS)


def evaluate(argv: Sequence[str]) -> int:
    """Grades params and ema_params on a split; `--config` and its overrides name other data than the run's."""
    parser = source_parser("eval", "Grade weights on a split.", with_use=False)
    parser.add_argument("--split", default="", help=f"default: what training evaluates on; {', '.join(ROLES)}, or any")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="head")
    parser.add_argument("--out", type=Path, metavar="JSON", help="file to write everything to; replaced if it exists")
    flags, rest = parser.parse_known_args(argv)
    try:
        parsed = parse_config("eval", rest, required=(), optional=()) if rest else None
    except USAGE_ERRORS as error:
        return usage_error("eval", error)

    def action() -> None:
        found = grade.evaluate(
            flags.workdir,
            parsed and parsed.config,
            split=flags.split,
            protocol=flags.protocol,
            kept=flags.weights,
            stage=flags.stage,
            notes=parsed.notes if parsed else (),
        )
        if jax.process_index() == 0:
            eval_report.show(found)
            if flags.out is not None:
                eval_report.write(flags.out, found)

    return guarded(action, also=EXPECTED_ERRORS)


def bundle_of(trained: Trained) -> Bundle:
    """A trained classifier as exports take it; classes without names are called by their numbers.

    Raises:
      ValueError: the weights have no classifier.
    """
    if isinstance(trained.model, MaeFacts):
        raise ValueError(f"{trained.source} is a masked autoencoder: it has no classifier to export")
    return Bundle(
        model=trained.model,
        params=trained.params,
        class_names=class_names_of(trained),
        preprocessing=trained.view.preprocessing,
    )


def source_parser(command: str, description: str, *, with_use: bool = True) -> argparse.ArgumentParser:
    """Parser with the flags that choose a checkpoint and, `with_use`, one of its sets of weights."""
    parser = argparse.ArgumentParser(prog=f"semivit {command}", description=description, allow_abbrev=False)
    parser.add_argument(
        "--workdir", required=True, type=Path, metavar="DIR", help="run, one of its checkpoints, or `semivit import`"
    )
    parser.add_argument("--weights", choices=tuple(KEPT), default="latest", help="checkpoint of the stage")
    if with_use:
        parser.add_argument("--use", choices=TREES, help="default: ema_params where they exist")
    parser.add_argument("--stage", choices=STAGE_ORDER, help="default: the latest with a checkpoint")
    return parser
