"""Label every image of a folder in a CSV file: `semivit predict`."""

from collections.abc import Sequence

from semivit_jax import console, files
from semivit_jax.cli.exits import usage_error
from semivit_jax.cli.flags import source_parser
from semivit_jax.cli.guarded import WEIGHTS_ERRORS, guarded
from semivit_jax.cli.paths import output_file, place
from semivit_jax.inference.predict import load
from semivit_jax.inference.predict_folder import Extras, predict_folder, tell
from semivit_jax.inference.trained import settled


def predict(argv: Sequence[str]) -> int:
    """Predicts a folder of images into a CSV file."""
    parser = source_parser("predict", "Predict every image of a folder.")
    parser.add_argument("--images", required=True, type=place, metavar="FOLDER")
    parser.add_argument("--out", required=True, type=output_file, metavar="CSV", help="replaced if it exists")
    parser.add_argument("--batch_size", type=int, default=64, help="images per forward pass")
    parser.add_argument("--outlier_score", action="store_true", help="a column that is high for images of no class")
    parser.add_argument(
        "--abstain_below", type=float, default=0.0, metavar="SHARE", help="no label where the confidence is lower"
    )
    flags = parser.parse_args(argv)
    if not 0 <= flags.abstain_below <= 1:
        return usage_error("predict", ValueError(f"--abstain_below is {flags.abstain_below:g}; from 0 to 1"))
    if flags.batch_size < 1:
        return usage_error("predict", ValueError(f"--batch_size is {flags.batch_size}; at least 1"))

    with guarded(also=WEIGHTS_ERRORS) as outcome:
        folder = files.path(flags.workdir)
        kept, remark = settled(folder, kept=flags.weights, stage=flags.stage)
        if remark:
            console.say(remark)
        with console.working("reading the weights"):
            predictor = load(flags.workdir, weights=kept, use=flags.use, stage=flags.stage, batch_size=flags.batch_size)
        extras = Extras(flags.outlier_score, flags.abstain_below)
        tell(predict_folder(predictor, flags.images, flags.out, extras=extras), flags.out, predictor.source)
    return outcome.code
