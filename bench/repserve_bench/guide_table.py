"""The guide's table, with measured rows beside the published ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from repserve_server.backends.published import OFFICIAL_TOP1, PUBLISHED_DEVICES, PUBLISHED_TOP1

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = "RepVGG PyTorch offline inference guide, section 8 (RepVGG-A0, 224 by 224)"
NOTES = (
    f"Published: {SOURCE}.",
    "Accuracies are in percent; the guide's 310 is a card of four chips.",
    "fps and top-1 at the right are measured through the server, on the device named there.",
)
COLUMNS = ("", "official pth", "310P om", "T4 fps", "310 fps", "310P fps", "measured on", "fps", "top-1")
FIRST_MEASURED_COLUMN = 6
TEXT_COLUMNS = frozenset({0, 6, 8})
WRAPPED_COLUMNS = frozenset({6, 8})
SIMULATED_PREFIX = "sim:"
FED_SHARE = 0.9
"""Below this share of its published throughput a simulated device was waiting for images."""


@dataclass(frozen=True)
class MeasuredRow:
    """What was measured on one device at one max batch."""

    device: str
    backend: str
    precision: str
    model: str
    max_batch_size: int
    fps: float
    simulated: bool
    top1: float | None
    """Share of 1; None when not measured."""
    top1_missing: str = ""
    """Why there is no top-1."""

    @property
    def measured_on(self) -> str:
        """The device and what ran the model there."""
        return f"{self.device} SIMULATED" if self.simulated else f"{self.device} {self.backend} {self.precision}"

    @property
    def top1_text(self) -> str:
        """The accuracy in percent, or why there is none."""
        return self.top1_missing if self.top1 is None else f"{100 * self.top1:.2f}"


def published_cells(max_batch_size: int) -> tuple[str, ...]:
    """Returns the guide's row for a batch size; dashes where it has none."""
    fps = [PUBLISHED_DEVICES[name].card_fps.get(max_batch_size) for name in ("t4", "310", "310p")]
    if None in fps:
        return (f"RepVGG bs{max_batch_size}", "-", "-", "-", "-", "-")
    return (f"RepVGG bs{max_batch_size}", f"{OFFICIAL_TOP1}", f"{PUBLISHED_TOP1}", *(f"{value}" for value in fps))


def table_cells(rows: Sequence[MeasuredRow]) -> list[tuple[str, ...]]:
    """Returns the rows of the table: by batch size, then in the order measured; numbers as plain digits."""
    cells = []
    for max_batch_size in sorted({1, 16} | {row.max_batch_size for row in rows}):
        published = published_cells(max_batch_size)
        measured = [
            (row.measured_on, f"{row.fps:.1f}", row.top1_text) for row in rows if row.max_batch_size == max_batch_size
        ]
        cells += [(*published, *own) for own in measured or [("-", "-", "-")]]
    return cells


def shortfalls(rows: Sequence[MeasuredRow]) -> list[str]:
    """Says of which simulated rows the figure is this machine's limit, not that of the published device."""
    lines = []
    for row in rows:
        published = PUBLISHED_DEVICES.get(row.device.removeprefix(SIMULATED_PREFIX)) if row.simulated else None
        if published is None or row.max_batch_size not in published.card_fps:
            continue
        device_fps = row.max_batch_size / published.batch_seconds(row.max_batch_size)
        if row.fps < FED_SHARE * device_fps:
            lines.append(
                f"{row.device} at max batch {row.max_batch_size}: the device takes {device_fps:.0f} fps; "
                f"{row.fps:.1f} is what this machine could feed it."
            )
    return lines


def rich_table(rows: Sequence[MeasuredRow]) -> Table:
    """Returns the table for a terminal; from 80 columns on no figure is wrapped or cut."""
    models = ", ".join(dict.fromkeys(row.model for row in rows)) or "nothing measured"
    table = Table(
        title=f"The guide's table beside {models}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for number, column in enumerate(COLUMNS):
        text = number in TEXT_COLUMNS
        table.add_column(
            # Narrow headings leave the width to the two columns of words, the only ones that then wrap.
            column if text else column.replace(" ", "\n"),
            no_wrap=number not in WRAPPED_COLUMNS,
            justify="left" if text else "right",
            style="bold" if number >= FIRST_MEASURED_COLUMN else None,
        )
    for line in table_cells(rows):
        table.add_row(*line)
    return table


def markdown_table(rows: Sequence[MeasuredRow]) -> str:
    """Returns the table and its notes as GitHub Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *table_cells(rows)]
    notes = [*NOTES, *shortfalls(rows)]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + [""] + notes) + "\n"
