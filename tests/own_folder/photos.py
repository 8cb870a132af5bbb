"""Small folders of images, and what a listing says of them."""

from PIL import Image


def put(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"}[
        path.suffix.lower()
    ]
    Image.new("RGB", (8, 8), (number, number, number)).save(path, format=kind)


def labels_of(folder):
    listing = folder.listing
    return {
        name: listing.class_names[label]
        for name, label in zip(listing.names, listing.labels, strict=True)
        if label >= 0
    }


def csv_of(tmp_path, *rows, header="path,label"):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path
