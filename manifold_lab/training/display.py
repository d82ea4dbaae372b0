"""What a run shows while it goes: a bar with images per second and time left, and TensorBoard's scalars."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from manifold_lab.core.errors import InputError
from manifold_lab.training.outcome import HistoryRow


class Watch:
    """A bar on standard error, and a TensorBoard writer; either only if wanted."""

    def __init__(self, done: int, images: int, *, bar: bool, tensorboard: Path | None):
        self.writer = None if tensorboard is None else _writer(tensorboard, done)
        text = "[progress.description]{task.description}"
        speed = "{task.fields[speed]:,.0f} images/s"
        columns = (TextColumn(text), BarColumn(), TextColumn(speed), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), disable=not bar)
        self.bar = self.progress.add_task("training", total=images, completed=done, speed=0.0)

    def __enter__(self) -> "Watch":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        if self.writer is not None:
            self.writer.close()

    def report(self, images: int, speed: float) -> None:
        """Move the bar."""
        self.progress.update(self.bar, completed=images, speed=speed)

    def row(self, row: HistoryRow) -> None:
        """A row of history, in words and to TensorBoard (its step is the number of images seen)."""
        line = f"epoch {row.epoch:.2f}: loss {row.train_loss:.3f}, validation {row.validation.accuracy:.1%}"
        self.progress.update(self.bar, description=line)
        if self.writer is None:
            return
        scalars = {"train/loss": row.train_loss, "train/learning_rate": row.learning_rate,
                   "validation/loss": row.validation.loss, "validation/accuracy": row.validation.accuracy}  # fmt: skip
        for name, value in scalars.items():
            self.writer.add_scalar(f"{row.kind}/{name}", value, row.images)


def _writer(folder: Path, done: int) -> Any:
    """A writer that hides what a killed run had written after its last checkpoint."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an optional library
    except ImportError:
        raise InputError("tensorboard: it is not installed; pip install tensorboard, or leave it off") from None
    return SummaryWriter(str(folder), purge_step=done + 1)
