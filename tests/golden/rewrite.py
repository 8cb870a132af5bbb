"""`make golden`: rewrites the golden files. Read the diff before you commit it."""

from tests.golden.goldens import GOLDENS, ROOT


def main() -> None:
    for path, make in GOLDENS.items():
        file, text = ROOT / path, make()
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            print(f"rewrote {path}")


if __name__ == "__main__":
    main()
