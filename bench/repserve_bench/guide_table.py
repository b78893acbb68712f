"""The guide's table: measured figures of a RepVGG-A0 beside the published ones.

The guide's figures are RepVGG-A0's alone. Another network gets a table of its own, without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repserve_bench.column import COUNT, Column, markdown_table, rich_table
from repserve_bench.served_model import is_repvgg_a0
from repserve_server.backends.published import OFFICIAL_TOP1, PUBLISHED_DEVICES, PUBLISHED_TOP1

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

SOURCE = "RepVGG PyTorch offline inference guide, section 8 (RepVGG-A0, 224 by 224)"
NOTES = (
    f"Published: {SOURCE}.",
    "Accuracies are in percent; the guide's 310 is a card of four chips.",
    "fps and top-1 at the right are measured through the server on the device named there.",
)
GUIDE_BATCHES = (1, 16)
SIMULATED_PREFIX = "sim:"
FED_SHARE = 0.9
"""Below this share of its published throughput a simulated device was waiting for images."""
PUBLISHED_COLUMNS = tuple(
    Column(key, heading, format=COUNT)
    for key, heading in (
        ("official", "official pth"),
        ("published", "310P om"),
        ("t4", "T4 fps"),
        ("310", "310 fps"),
        ("310p", "310P fps"),
    )
)
NAME = Column("name")
MEASURED_COLUMNS = (Column("measured_on", "measured on"), Column("fps", "fps", format=COUNT), Column("top1", "top-1"))


@dataclass(frozen=True)
class MeasuredRow:
    """The figures of one device at one max batch size."""

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
    repvgg_a0: bool = True
    """Whether it is the guide's network, so that it may stand in the guide's rows."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> MeasuredRow:
        """Return the row of a single run's report."""
        model, accuracy = document["model"], document["accuracy"]
        return cls(
            device=", ".join(model["devices"]),
            backend=", ".join(model["backends"]),
            precision=", ".join(model["precisions"]),
            model=model["name"],
            max_batch_size=model["max_batch_size"],
            fps=document["fps"],
            simulated=model["simulated"],
            top1=accuracy["top1"],
            top1_missing=accuracy["missing"],
            repvgg_a0=is_repvgg_a0(model["name"], crop=model["crop"], classes=model["classes"]),
        )

    def cells(self) -> dict[str, str]:
        """Return the text of the measured columns."""
        ran = "SIMULATED" if self.simulated else f"{self.backend} {self.precision}"
        top1 = self.top1_missing.partition(" (")[0] if self.top1 is None else f"{100 * self.top1:.2f}"
        return {"measured_on": f"{self.device} {ran}", "fps": f"{self.fps:.1f}", "top1": top1}


@dataclass(frozen=True)
class GuideTable:
    """A table to print: in a terminal, as Markdown or in the HTML report."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]

    def print(self, console: Console) -> None:
        """Print the table and its notes; from 80 columns on no figure is wrapped or cut."""
        console.print(rich_table(self.columns, self.rows, self.title))
        console.print()
        for note in self.notes:
            console.print(note, highlight=False)

    def markdown(self) -> str:
        """Return the table and its notes as GitHub Markdown."""
        cells = ([column.cell(row) for column in self.columns] for row in self.rows)
        return markdown_table([column.heading for column in self.columns], cells) + "\n" + "\n".join(self.notes) + "\n"


def guide_tables(rows: Sequence[MeasuredRow]) -> list[GuideTable]:
    """Return the guide's table if a RepVGG-A0 was measured, and a table of the other networks if there are any."""
    ours, others = ([row for row in rows if row.repvgg_a0 == is_a0] for is_a0 in (True, False))
    tables = []
    if ours:
        columns = (NAME, *PUBLISHED_COLUMNS, *MEASURED_COLUMNS)
        names = ", ".join(dict.fromkeys(row.model for row in ours))
        notes = (*NOTES, *shortfalls(ours))
        tables.append(GuideTable(f"The guide's table beside {names}", columns, tuple(_published_rows(ours)), notes))
    if others:
        cells = tuple({"name": f"{row.model} bs{row.max_batch_size}", **row.cells()} for row in others)
        notes = (
            "The guide's figures are those of RepVGG-A0 and are not shown beside another network.",
            *shortfalls(others),
        )
        tables.append(GuideTable("Measured", (NAME, *MEASURED_COLUMNS), cells, notes))
    return tables


def _published_rows(rows: Sequence[MeasuredRow]) -> list[dict[str, str]]:
    """Return a row for each measurement, by batch size, with the guide's figures for that size."""
    found = []
    for size in sorted({*GUIDE_BATCHES, *(row.max_batch_size for row in rows)}):
        published = {"name": f"RepVGG bs{size}"}
        fps = {name: PUBLISHED_DEVICES[name].card_fps.get(size) for name in ("t4", "310", "310p")}
        if None not in fps.values():
            published |= {"official": f"{OFFICIAL_TOP1}", "published": f"{PUBLISHED_TOP1}"}
            published |= {name: f"{value}" for name, value in fps.items()}
        measured = [row.cells() for row in rows if row.max_batch_size == size]
        found += [{**published, **cells} for cells in measured or [{}]]
    return found


def shortfalls(rows: Sequence[MeasuredRow]) -> list[str]:
    """Return a line for each simulated row whose figure is limited by this machine, not by the published device."""
    lines = []
    for row in rows:
        published = PUBLISHED_DEVICES.get(row.device.removeprefix(SIMULATED_PREFIX)) if row.simulated else None
        if published is None or row.max_batch_size not in published.card_fps:
            continue
        device_fps = row.max_batch_size / published.batch_seconds(row.max_batch_size)
        if row.fps < FED_SHARE * device_fps:
            lines.append(
                f"{row.device} at max batch size {row.max_batch_size}: the device reaches {device_fps:.0f} fps; "
                f"{row.fps:.1f} is what this machine could send it."
            )
    return lines
