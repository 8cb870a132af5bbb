"""Running a launcher with stand-ins for the programs it calls."""

import dataclasses
import os
import pathlib
import subprocess

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"

# Between the words of a recorded call, and after each call; neither occurs in an argument.
_WORD, _CALL = "\x1f", "\x1e"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A folder with stand-ins in front of the PATH, and the record of their calls."""

    folder: pathlib.Path

    def stand_in(self, program: str, body: str) -> None:
        """Puts a bash script in the place of `program`.

        Args:
          program: the name it is called by.
          body: bash; `$call` is the number of this program's calls so far, this one included.
        """
        script = self.folder / "bin" / program
        script.parent.mkdir(exist_ok=True)
        script.write_text(
            "#!/usr/bin/env bash\n"
            f"printf -v words '%s\\x1f' {program} \"$@\"\n"
            # In one write, since stand-ins run at the same time.
            f"printf '%s\\x1e' \"$words\" >>'{self.folder}/calls'\n"
            f"call=$(tr '\\036' '\\n' <'{self.folder}/calls' | grep -c $'^{program}\\x1f')\n"
            f"{body}\n"
        )
        script.chmod(0o755)

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts launch/<script> with the stand-ins in reach."""
        environ = os.environ | {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
        }
        for variable in ("XLA_FLAGS", "JAX_PLATFORMS"):
            environ.pop(variable, None)
        return subprocess.Popen(
            ["bash", str(LAUNCH / script), *arguments],
            env=environ | {"SLURM_JOB_ID": "17"},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, *arguments: str) -> tuple[int, str]:
        """Runs launch/<script> to its end; returns its exit code and all it printed."""
        with self.start(script, *arguments) as launcher:
            try:
                output, _ = launcher.communicate(timeout=60)
            finally:
                launcher.kill()
        return launcher.returncode, output

    def calls(self, program: str | None = None) -> list[list[str]]:
        """The calls so far, each as [program, argument, ...]; of one program, or of all."""
        record = self.folder / "calls"
        lines = record.read_text().split(_CALL)[:-1] if record.exists() else []
        calls = [line.split(_WORD)[:-1] for line in lines]
        return [call for call in calls if program in (None, call[0])]
