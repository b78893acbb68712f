"""The planner's comparison on all cores."""

from __future__ import annotations

from planning.comparison import points, run_points
from planning.devices import GUIDE_310P


def test_points_are_simulated_in_other_processes_as_in_this_one() -> None:
    wanted = points([GUIDE_310P], (0.3, 0.5), seeds=2, images=200)
    done: list[None] = []
    assert run_points(wanted, lambda: done.append(None)) == [(point, point.run()) for point in wanted]
    assert len(done) == 4
