"""Machines that are not here: a file system with a few devices, and what nvidia-smi prints there."""

HEADER = """Sat Nov 28 01:00:00 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI {driver}             Driver Version: {driver}     CUDA Version: {cuda}     |
|-----------------------------------------+------------------------+----------------------+
"""


def nvidia_smi(driver, cuda, *rows):
    """Answers as nvidia-smi does: a table without arguments, and `capability, name` of each GPU when asked for them."""

    def ask(*arguments):
        if arguments:
            assert arguments == ("--query-gpu=compute_cap,name", "--format=csv,noheader")
            return "\n".join(rows) + "\n" if rows else None
        return HEADER.format(driver=driver, cuda=cuda)

    return ask


def without_nvidia_smi(*arguments):
    """Answers where there is no nvidia-smi, or where it finds no driver."""
    return None


def files(root, contents):
    """Writes files below a folder that stands for a machine's file system."""
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
