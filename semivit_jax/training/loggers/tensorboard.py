"""Write TensorBoard's event files."""

from collections.abc import Mapping

from semivit_jax.files import GrowingFolder, Path


class TensorBoard:
    """Writes event files into the folder `tb`."""

    def __init__(self, folder: Path, restored_step: int | None):
        from tensorboardX import SummaryWriter  # half a second that a run without it need not wait

        self._grown = GrowingFolder(folder / "tb")
        purge_step = None if restored_step is None else restored_step + 1
        self._board = SummaryWriter(str(self._grown.local), purge_step=purge_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def flush(self) -> None:
        self._board.flush()
        self._grown.flush()

    def close(self) -> None:
        self._board.close()
        self._grown.close()
