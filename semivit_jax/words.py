"""Write a number with its noun, as people read it: '1 image', '1,200 images'."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """'1 image', '1,200 images', '2 classes': a number and its noun, whose plural may be given."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
