"""The documentation names every setting, model.toml key, protocol field and status that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from repserve_protos.v1 import classification_pb2 as pb
from repserve_server.errors import Status
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.config import ModelConfig
from repserve_server.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
API = (DOCS / "api.md").read_text(encoding="utf-8")


def table(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table whose first column has this heading, by their first cell without its backticks."""
    lines = iter(page.splitlines())
    next(line for line in lines if line.startswith(f"| {heading} |"))
    next(lines)
    rows: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0].strip("`")] = cells
    return rows


SETTINGS = table(OPERATIONS, "Flag")
MODEL_KEYS = table(OPERATIONS, "Key")
STATUSES = table(API, "Status")


def test_the_reader_of_tables_reads_cells_and_stops_at_the_end() -> None:
    page = "| Name | X |\n|---|---|\n| `a` | 1 |\n| `b` | 2 |\n\n| Name | X |\n|---|---|\n| `c` | 3 |\n"
    assert table(page, "Name") == {"a": ["`a`", "1"], "b": ["`b`", "2"]}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    flag, variable = f"--{name.replace('_', '-')}", f"{ENVIRONMENT_PREFIX}{name.upper()}"
    row = SETTINGS[flag]
    assert row[:3] == [f"`{flag}`", f"`{variable}`", f"`{name}`"]
    assert row[4], "a setting needs a meaning"
    default = Settings.model_fields[name].default
    if default in (None, ()):
        assert row[3]
        assert not row[3].startswith("`"), "what a missing value means is said in words"
    else:
        value = ",".join(default) if isinstance(default, tuple) else default
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        assert row[3] == f"`{shown}`"


def test_no_setting_is_documented_that_does_not_exist() -> None:
    assert {row[2].strip("`") for row in SETTINGS.values()} == set(Settings.model_fields)


def _toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "`{" + ", ".join(f"{key} = {entry}" for key, entry in value) + "}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{list(value) if isinstance(value, tuple) else value}`"


def _keys(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    return {prefix + name: _toml(field.default) for name, field in model.model_fields.items()}


def test_every_key_of_model_toml_is_documented_with_its_default() -> None:
    expected = _keys(ModelConfig) | _keys(Preprocessing, "preprocessing.")
    del expected["preprocessing"]
    assert {key: row[1] for key, row in MODEL_KEYS.items()} == expected


@pytest.mark.parametrize("status", Status)
def test_every_status_is_documented_with_its_number(status: Status) -> None:
    assert STATUSES[status.name][1] == str(status.grpc_code)


def test_no_status_is_documented_that_is_not_used() -> None:
    assert set(STATUSES) == {status.name for status in Status}


def test_every_rpc_message_and_field_is_documented() -> None:
    file = pb.DESCRIPTOR
    names = {method.name for service in file.services_by_name.values() for method in service.methods}
    for message in file.message_types_by_name.values():
        names |= {field.name for field in message.fields}
    missing = {name for name in names if f"`{name}`" not in API}
    assert missing == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in DOCS.glob("*.md"))])
def test_links_between_files_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file) if file else path
        assert linked.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page} links to {target}"
