"""Make the environment of `make install`: find the accelerator, say it, and install what fits.

A second run with the same wishes and requirements does nothing. A flag that is absent leaves what the run before was
told; an empty one goes back to what is found, or to no extras.

Needs nothing but the standard library. A python3 that is too old still says what is needed, so the syntax is that of
Python 3.6.
"""

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 14)
ACCELERATORS = ("cpu", "cuda12", "cuda13", "tpu")
EXTRAS = ("gcs", "heic", "onnx", "report", "select", "label", "torch", "plan", "wandb", "mlflow")
REQUIREMENTS = ("setup.py", "pyproject.toml", "requirements/constraints.txt")
UNFIT, BAD_USAGE = 1, 2


def main(argv: list) -> int:
    """Installs what the arguments ask for; returns the exit code (0 done, 1 cannot be done here, 2 bad usage)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supported", action="store_true", help="only tell whether this Python will do: exit code 0")
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="folder of the environment")
    parser.add_argument("--python", action="store_true", help="this Python was named, so it is the one to use")
    parser.add_argument("--accelerator", help="one of {}".format(", ".join(ACCELERATORS)))
    parser.add_argument("--extras", help="some of {}, with commas between them".format(",".join(EXTRAS)))
    flags = parser.parse_args(argv)
    if flags.supported:
        return 0 if supported(sys.version_info) else UNFIT
    before = read_stamp(flags.venv)
    python = here() if flags.python else kept_python(before)
    unfit = unfitness() if python == here() else ""
    for problem, code in ((unknown_words(flags.accelerator, flags.extras), BAD_USAGE), (unfit, UNFIT)):
        if problem:
            print(problem, file=sys.stderr)
            return code
    wanted, why = wish(before, flags.accelerator, flags.extras, python)
    if wanted == before:
        return 0
    print("Installs {} into {}: {}".format(" with ".join(what(wanted)), flags.venv, why), flush=True)
    return install(flags.venv, wanted, fresh=must_start_anew(before, wanted))


def here() -> list:
    """The running Python: its version, and where it is; of an environment, the one that it was made with."""
    return [*sys.version_info[:2], getattr(sys, "_base_executable", sys.executable)]


def kept_python(before: dict) -> list:
    """The Python of the environment, as long as it is there: whichever comes first on the path may be another."""
    python = before.get("python") or here()
    return python if Path(python[-1]).exists() else here()


def supported(version: tuple) -> bool:
    """Whether a version of Python will do."""
    return OLDEST <= tuple(version[:2]) <= NEWEST


def unfitness() -> str:
    """What the running Python lacks, and what helps; "" where it will do."""
    here = "{}.{}".format(*sys.version_info[:2])
    if not supported(sys.version_info):
        needed = "semivit_jax needs Python {}.{} to {}.{}".format(*OLDEST + NEWEST)
        return f"{needed}; {sys.executable} is {here}. Name another: make install PYTHON=/path/to/python3.12"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return f"{sys.executable} cannot make environments; on Debian and Ubuntu: apt install python{here}-venv"
    return ""


def unknown_words(accelerator: str, extras: str) -> str:
    """What is wrong with the words given to make, and which are legal; "" where nothing is. None: not given."""
    if accelerator and accelerator not in ACCELERATORS:
        return "ACCELERATOR={} is unknown; legal are {}".format(accelerator, ", ".join(ACCELERATORS))
    unknown = [word for word in words(extras or "") if word not in EXTRAS]
    if unknown:
        return "EXTRAS={} is unknown; legal are {}".format(",".join(unknown), ", ".join(EXTRAS))
    return ""


def words(text: str) -> list:
    """The words of a comma-separated list, sorted."""
    return sorted({word.strip() for word in text.split(",")} - {""})


def find() -> tuple:
    """(word of ACCELERATORS that fits this machine, what the machine has)."""
    file = ROOT / "semivit_jax" / "hosts" / "accelerators.py"  # the package itself needs what is not installed yet
    spec = importlib.util.spec_from_file_location("accelerators", str(file))
    accelerators = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(accelerators)
    machine = accelerators.find()
    seen = [accelerators.described(machine), accelerators.obstacle(machine)]
    return accelerators.extra(machine) or "cpu", "found " + "; ".join(filter(None, seen))


def wish(before: dict, accelerator: str, extras: str, python: list) -> tuple:
    """(what is to be installed, as the stamp keeps it, and why).

    Args:
      before: the stamp of the last run; {} without one.
      accelerator, extras: as given to make; None where they are not.
      python: to use, see `here`.
    """
    asked = before.get("asked", "") if accelerator is None else accelerator
    kept = before.get("accelerator", "cpu") if accelerator is None else "cpu"
    if asked:
        chosen, why = asked, "as ACCELERATOR says"
    elif kept != "cpu":
        # Of machines that share a checkout some have none, and one that does not answer is there all the same.
        chosen, why = kept, "as found before"
    else:
        chosen, why = find()
    wanted = {
        "asked": asked,
        "accelerator": chosen,
        "extras": before.get("extras", []) if extras is None else words(extras),
        "python": python,
        "requirements": checksum(),
    }
    return wanted, why


def what(wanted: dict) -> list:
    """What is installed, in words: the accelerator, then the extras where there are any."""
    return ["for " + wanted["accelerator"], *([" and ".join(wanted["extras"])] if wanted["extras"] else [])]


def must_start_anew(before: dict, wanted: dict) -> bool:
    """Whether the environment holds what would be in the way: pip adds, and takes nothing away."""
    if not before:
        return False
    kept = all(before[key] == wanted[key] for key in ("accelerator", "python"))
    return not (kept and set(before["extras"]) <= set(wanted["extras"]))


def install(venv: Path, wanted: dict, fresh: bool) -> int:
    """Makes the environment, anew where it must be `fresh`; returns an exit code."""
    subprocess.check_call([wanted["python"][-1], "-m", "venv", *(["--clear"] if fresh else []), str(venv)])
    stamp = venv / ".installed"
    # An installation that is cut off is begun again, and has left word of what it may have put there.
    stamp.write_text(json.dumps(dict(wanted, requirements="")))
    accelerator = [] if wanted["accelerator"] == "cpu" else [wanted["accelerator"]]
    package = "{}[{}]".format(ROOT, ",".join(["dev", *accelerator, *wanted["extras"]]))
    constraints = str(ROOT / "requirements" / "constraints.txt")
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    code = subprocess.call([*pip, "-c", constraints, "-e", package])
    if code == 0:
        stamp.write_text(json.dumps(wanted))
    return code


def read_stamp(venv: Path) -> dict:
    """What the last run installed; {} without one, and for an empty one, as earlier versions left it."""
    stamp = venv / ".installed"
    return json.loads(stamp.read_text() or "{}") if stamp.is_file() else {}


def checksum() -> str:
    """Of the files that say what is installed."""
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in REQUIREMENTS)).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
