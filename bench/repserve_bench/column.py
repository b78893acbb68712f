"""A column of a report: a figure's path in the JSON, how it is computed and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Document = Mapping[str, Any]

Better = Literal["higher", "lower", "neither"]
Noise = Literal["throughput", "p50", "p99", "none"]
"""Which figure of a run's windows shows how much of a difference is noise."""


MANY = 10
"""Tables with this many columns have no space between them, to fit into 80 characters."""


@dataclass(frozen=True)
class Format:
    """How values are printed: a factor to the unit, decimals, and the unit."""

    unit: str = ""
    factor: float = 1.0
    digits: int | None = None
    """None prints the value as it is."""

    def number(self, value: object) -> str:
        """Return the value without its unit; a dash for None."""
        if value is None:
            return "-"
        if self.digits is not None and isinstance(value, (int, float)):
            return f"{self.factor * value:.{self.digits}f}"
        if isinstance(value, dict):
            return ", ".join(f"{name} {count}" for name, count in sorted(value.items())) or "0"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    def text(self, value: object) -> str:
        """Return the value with its unit; values other than numbers have none."""
        return (
            f"{self.number(value)} {self.unit}" if self.unit and isinstance(value, (int, float)) else self.number(value)
        )


TEXT = Format()
COUNT = Format(digits=0)
NUMBER = Format(digits=2)
RATE = Format(digits=1)
FPS = Format("fps", digits=1)
MILLISECONDS = Format("ms", factor=1000, digits=2)
CPU_MS = Format("ms", digits=3)
PERCENT = Format("%", factor=100, digits=2)


@dataclass(frozen=True)
class Column:
    """A figure; reports are read by the same columns that wrote them."""

    key: str
    """Path in the JSON document, with slashes between its parts."""
    heading: str = ""
    """Name in tables; empty where the figure is for the JSON file only."""
    get: str | Callable[[Any], object] = ""
    """Attribute of the measurement, or a function of it; empty if the figure does not come from one."""
    format: Format = TEXT
    short: str = ""
    """Heading in a table, if name and unit would be too wide."""
    instead: str = ""
    """Path of the text to print if there is no figure."""
    optional: bool = False
    """Whether a list leaves the figure out if it is missing or a count of 0."""
    detail: bool = False
    """Whether the figure is only in the report of a single run, not in each point of a series."""
    better: Better = "neither"
    noise: Noise = "none"

    @property
    def title(self) -> str:
        """Name and unit, for figures that are printed without it."""
        return f"{self.heading}, {self.format.unit}" if self.format.unit else self.heading

    def value(self, document: Document) -> object:
        """Return the figure in a document; None where there is none."""
        return find(document, self.key)

    def found(self, document: Document) -> bool:
        """Return whether there is a figure; a count of 0 is none."""
        value = self.value(document)
        return isinstance(value, float) or bool(value)

    def text(self, document: Document) -> str:
        """Return the figure with its unit, or why there is none."""
        value = self.value(document)
        if value is None and self.instead:
            return str(find(document, self.instead) or "-")
        return self.format.text(value)

    def cell(self, document: Document) -> str:
        """Return the figure for a table whose heading has the unit."""
        return self.format.number(self.value(document))

    @property
    def left(self) -> bool:
        """Whether it is aligned to the left, as words are."""
        return self.format == TEXT


def find(document: Document, path: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value at a path of a document; None if there is none."""
    found: Any = document
    for key in path.split("/"):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def make_document(columns: Iterable[Column], source: object) -> dict[str, Any]:
    """Return the figures of a measurement as nested JSON values."""
    document: dict[str, Any] = {}
    for column in columns:
        if column.get:
            get = attrgetter(column.get) if isinstance(column.get, str) else column.get
            *parents, last = column.key.split("/")
            target = document
            for key in parents:
                target = target.setdefault(key, {})
            target[last] = get(source)
    return document


def list_figures(columns: Iterable[Column], document: Document) -> list[tuple[str, str]]:
    """Return the name and the text of each figure in a document, without missing optional ones."""
    shown = (column for column in columns if not column.optional or column.found(document))
    return [(column.heading, column.text(document)) for column in shown]


def rich_list(columns: Iterable[Column], document: Document, title: str) -> Table:
    """Return the figures of one document, one a line, for a terminal."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in list_figures(columns, document):
        table.add_row(*row)
    return table


def rich_table(
    columns: Sequence[Column],
    documents: Iterable[Document],
    title: str,
    style: Callable[[Document], str] = lambda _: "",
) -> Table:
    """Return a row for each document, for a terminal; narrow headings keep figures from being cut."""
    padding = (0, 0 if len(columns) >= MANY else 1, 0, 0)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=padding)
    rows = [([column.cell(document) for column in columns], style(document)) for document in documents]
    for number, column in enumerate(columns):
        heading = (column.short or column.title).replace(", ", "\n").replace(" ", "\n")
        if column.left:
            longest = max((len(word) for cells, _ in rows for word in cells[number].split()), default=0)
            table.add_column(heading, min_width=longest, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for cells, row_style in rows:
        table.add_row(*cells, style=row_style)
    return table


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in GitHub's Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)
