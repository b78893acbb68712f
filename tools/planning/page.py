"""The results in docs/planner.md: the text between two marks is rewritten, the rest stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planning.devices import GUIDE_DEVICES
from planning.policies import POLICIES, SINGLE
from planning.tables import (
    batch_rows,
    gain_rows,
    latency_rows,
    markdown_table,
    plan_rows,
    rule_rows,
    share_rows,
)
from repserve_server.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from planning.comparison import Comparison

BEGIN = "<!-- results of `make planner` -->"
END = "<!-- end of the results -->"
PLANNED = (1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 16, 17, 19, 20)
"""Numbers of waiting images for which the page shows the plans."""


class PageError(Exception):
    """The page has no place for the results; the message names what is missing."""


def results_text(comparisons: Sequence[Comparison], settings: str) -> str:
    """Return the results in Markdown.

    Args:
        comparisons: of all devices; the first is shown in full.
        settings: what was run, and when.
    """
    shown = comparisons[0]
    name = f"{shown.device.title}, SIMULATED"
    others = [policy for policy in POLICIES if policy != SINGLE]
    known, known_of_singles = (f"{100 * shown.widest_margin(names):.1f} %" for names in (others, [SINGLE]))
    certainty = (
        f"With 95 % confidence, the 99th percentiles are known to {known} or better, and those of one by one, whose "
        f"load ends near its capacity, to {known_of_singles}. ± gives it for differences, which are known better."
    )
    planned = {f"{device.chip} 1, 16": device.two_sizes for device in GUIDE_DEVICES}
    planned |= {f"{device.chip} gears": device.gears for device in GUIDE_DEVICES}
    parts = [
        f"SIMULATED, no device was measured: {settings}.",
        certainty,
        f"### 99th percentile of the latency, ms ({name})",
        markdown_table(latency_rows(shown, "p99")),
        f"### Mean latency, ms ({name})",
        markdown_table(latency_rows(shown, "mean")),
        f"### Device utilisation ({name})",
        markdown_table(share_rows(shown, "utilisation")),
        f"### Rows that are padding ({name})",
        markdown_table(share_rows(shown, "padding")),
        f"### Images in a run ({name})",
        markdown_table(batch_rows(shown)),
        f"### Where the planner is furthest ahead, 99th percentile ({name})",
        markdown_table(gain_rows(shown)),
        "### The worst against the best of the others, 99th percentile (SIMULATED)",
        markdown_table(rule_rows(comparisons)),
        "### Plans at the guide's rates",
        markdown_table(plan_rows(planned, PLANNED)),
    ]
    return "\n\n".join(parts)


def write_results(page: Path, results: str) -> None:
    """Put results between the marks of a page.

    Raises:
        PageError: The marks are not both there, in this order.
        OSError: The page cannot be read or written.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PageError(f"{page} has no place for the results: expected a line {BEGIN!r} and after it a line {END!r}")
    write_whole(page, f"{before}{BEGIN}\n\n{results}\n\n{END}{after}".encode())
