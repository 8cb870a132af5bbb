"""Draw docs/pictures/method.svg: the three stages, with pictures that the code of training made.

`python -m tutorial.method FILE`. It has a light ground of its own, so that it reads the same on white and on dark.
"""

import base64
import io
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from tutorial import seen

WIDTH, HEIGHT = 800, 452
THUMBNAIL = 128  # pixels of an embedded picture, about twice what it is drawn at
INK, SOFT, LINE = "#1f2328", "#57606a", "#8c959f"
BLUE, GREEN, AMBER = "#0969da", "#1a7f37", "#9a6700"
CONFIDENCES = (0.95, 0.75)
SEEDS = (12, 22)  # draws whose views can be recognised: of the temple, of the flower
STYLE = f"""
text {{ font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; font-size: 14px; fill: {INK} }}
.title {{ font-size: 17px; font-weight: 600 }}
.soft {{ fill: {SOFT} }}
.box {{ font-size: 16px; font-weight: 600 }}
.arrow {{ fill: none; stroke: {SOFT}; stroke-width: 2; marker-end: url(#head) }}
"""
ABOUT = (
    "Semi-ViT in three stages. 1: MAE pre-training on all images guesses hidden patches. 2: fine-tuning on the few "
    "labeled images. 3: a teacher, the moving average of the student, gives pseudo labels to weak views of unlabeled "
    "images; the student learns them on strong views that are mixed by the confidence of their labels."
)


def figure() -> str:
    """The whole SVG."""
    temple, flower = (seen.views(photo, seed) for photo, seed in zip(seen.sample_photos(), SEEDS, strict=True))
    mix = seen.mixed(flower.strong, temple.strong, CONFIDENCES)
    parts = [
        _panel(12, 12, 236, 218),
        _text(26, 40, "1  MAE pre-training", "title"),
        _text(26, 62, "all images, no labels", "soft"),
        _picture(26, 78, 88, seen.masked(flower.photo, 1)),
        _arrow("M 120 122 H 140"),
        _picture(146, 78, 88, flower.photo),
        _text(26, 190, "Three quarters are hidden;"),
        _text(26, 210, "the network draws them."),
        _panel(12, 242, 236, 198),
        _text(26, 270, "2  Fine-tuning", "title"),
        _text(26, 292, "the few labeled images", "soft"),
        _picture(26, 308, 76, flower.photo),
        _arrow("M 108 346 H 136"),
        _text(144, 351, "dahlia", "box"),
        _text(26, 408, "The network learns the"),
        _text(26, 428, "classes, as far as they go."),
        _arrow("M 130 230 V 239"),
        _panel(268, 12, 520, 428),
        _arrow("M 248 341 H 265"),
        _text(284, 40, "3  Semi-supervised training", "title"),
        _text(284, 62, "many unlabeled images, two views of each", "soft"),
        *_teacher_row(flower.weak, temple.weak),
        *_student_row(flower.strong, temple.strong, mix),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(ABOUT)}">\n<style>{STYLE}</style>\n'
        '<marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="8" markerHeight="8" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path d="M 0 0 L 8 4 L 0 8 z" fill="{SOFT}"/></marker>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _teacher_row(first: np.ndarray, second: np.ndarray) -> list[str]:
    """Weak views, the teacher, and its pseudo labels."""
    sure, less = CONFIDENCES
    return [
        _picture(284, 84, 66, first),
        _picture(356, 84, 66, second),
        _text(284, 172, "weak views"),
        _arrow("M 428 117 H 532"),
        _box(538, 90, 106, 54, "teacher", BLUE),
        _arrow("M 646 117 H 660"),
        _text(666, 100, f"dahlia {sure}", "box"),
        _text(666, 126, f"temple {less}", "box"),
        _text(666, 148, "pseudo labels,", "soft"),
        _text(666, 166, "kept if confident", "soft"),
    ]


def _student_row(first: np.ndarray, second: np.ndarray, mix: seen.Mixed) -> list[str]:
    """Strong views, their mixture, the student and the loss; with the way back to the teacher."""
    return [
        _picture(284, 236, 66, first),
        _picture(356, 236, 66, second),
        _text(284, 324, "strong views"),
        _arrow("M 428 269 H 440"),
        _picture(446, 236, 66, mix.blended),
        _text(410, 324, f"mixed, {mix.share:.2f} dahlia:", ""),
        _text(410, 344, "the surer image", "soft"),
        _text(410, 362, "weighs more", "soft"),
        _arrow("M 518 269 H 532"),
        _box(538, 242, 106, 54, "student", GREEN),
        _arrow("M 646 269 H 680"),
        _box(686, 242, 86, 54, "loss", AMBER),
        _arrow("M 729 176 V 238"),
        _arrow("M 591 240 V 148"),
        _text(482, 186, "moving", "soft"),
        _text(482, 204, "average (EMA)", "soft"),
        _arrow("M 591 384 V 300"),
        _text(520, 402, "labeled images too, as in 2"),
        _text(284, 402, "The teacher", ""),
        _text(284, 422, "is what one keeps.", ""),
    ]


def _panel(x: int, y: int, width: int, height: int) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="#f6f8fa" stroke="#d0d7de"/>'


def _box(x: int, y: int, width: int, height: int, name: str, colour: str) -> str:
    middle = f'x="{x + width // 2}" y="{y + height // 2 + 6}" text-anchor="middle"'
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="#ffffff" stroke="{colour}" '
        f'stroke-width="2"/><text {middle} class="box" style="fill: {colour}">{name}</text>'
    )


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>'


def _arrow(path: str) -> str:
    return f'<path class="arrow" d="{path}"/>'


def _picture(x: int, y: int, side: int, pixels: np.ndarray) -> str:
    encoded = io.BytesIO()
    Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS).save(encoded, "JPEG", quality=82)
    data = base64.b64encode(encoded.getvalue()).decode()
    return (
        f'<image x="{x}" y="{y}" width="{side}" height="{side}" href="data:image/jpeg;base64,{data}"/>'
        f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="none" stroke="{LINE}"/>'
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(figure())
