"""Write the Grafana dashboards of deploy/grafana, or check that the committed ones are current."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.bench import BENCH_DASHBOARD
from dashboards.server import SERVER_DASHBOARD

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "grafana"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a committed dashboard is not current")
    check = parser.parse_args().check
    stale = []
    for board in (SERVER_DASHBOARD.build(), BENCH_DASHBOARD.build()):
        file, content = FOLDER / f"{board.uid}.json", json.dumps(board, cls=JSONEncoder, indent=2) + "\n"
        if not check:
            file.write_text(content, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != content:
            stale.append(file.name)
    if stale:
        print(f"not current: {', '.join(stale)}; run `make dashboards` and commit the result")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
