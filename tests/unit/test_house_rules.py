"""The rules of the house, checked by reading the source: who imports whom, and what no file may hold."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "repserve_protos": ROOT / "protos",
    "repserve_client": ROOT / "client",
    "repserve_server": ROOT / "server",
    "repserve_bench": ROOT / "bench",
    "repserve_convert": ROOT / "convert",
}
SERVER = "repserve_server"
PROTOCOLS = f"{SERVER}.protocols"


@dataclass(frozen=True)
class Floor:
    """A floor of the server: the packages and modules below repserve_server that it holds, and their job."""

    number: int
    rooms: tuple[str, ...]
    job: str

    @property
    def row(self) -> str:
        """The floor as a row of the table in the documentation; packages end with a slash."""
        names = (f"`{name}/`" if (ROOT / "server" / SERVER / name).is_dir() else f"`{name}`" for name in self.rooms)
        return f"| {self.number} | {', '.join(names)} | {self.job} |"


HOUSE = (
    Floor(7, ("cli", "doctor"), "the commands `serve`, `models`, `golden` and `doctor`"),
    Floor(6, ("supervisor",), "starts, watches, loads and retires versions, drains; metrics and health over HTTP"),
    Floor(5, ("frontend",), "one frontend process: wires protocols to the dataplane"),
    Floor(
        4,
        ("protocols",),
        "`grpc/` and `http/` convert messages and map errors; `kserve/` knows what a KServe v2 request means; "
        "`console/` is the page",
    ),
    Floor(3, ("dataplane",), "from images to scores"),
    Floor(2, ("worker",), "process, loop, planner"),
    Floor(
        1,
        (
            "repository",
            "backends",
            "channel",
            "imaging",
            "ascend",
            "errors",
            "files",
            "settings",
            "metrics",
            "metric_definition",
            "process",
            "logs",
        ),
        "the model repository's files, runtimes, and what the others stand on",
    ),
)
"""The one table of floors; CONTRIBUTING.md and docs/architecture.md show its rows."""
FLOORS = {name: floor.number for floor in HOUSE for name in floor.rooms}
LENT_FLOOR = 2
"""bench and convert may use the server up to this floor."""
LENT_PACKAGES = {
    "repserve_protos": (),
    "repserve_client": ("repserve_protos",),
    "repserve_bench": ("repserve_protos", "repserve_client"),
    "repserve_convert": (),
}
"""Packages of ours that each package may use as a whole."""
RPC_PACKAGES = {"grpc", "grpc_health", "grpc_reflection", "grpc_status", "google", "repserve_protos"}
RUNTIME_PACKAGES = {"openvino", "onnxruntime", "onnx", "torch", "aclruntime", "ais_bench"}
MAX_LINES = 350
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
MACHINE_PATH = re.compile(rb"(?<![\w.~$}/-])/(?:work|home|root|Users)/[\w.]")


@dataclass(frozen=True)
class Import:
    """An import statement's target, a module of ours or of others; ``lazy``: inside a function."""

    target: str
    line: int
    lazy: bool

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


@cache
def modules() -> dict[str, Path]:
    """Every module of the five packages by its dotted name, generated ones left out."""
    found = {}
    for folder in PACKAGES.values():
        for path in folder.rglob("*.py"):
            if not GENERATED.search(path.name):
                parts = path.relative_to(folder).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    """All imports of a module, those in functions and below ``if TYPE_CHECKING`` included."""
    return tuple(imports_in(modules()[module].read_text(encoding="utf-8"), frozenset(modules())))


def imports_in(source: str, known: frozenset[str]) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, *, lazy: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.append(Import(submodule if submodule in known else str(node.module), node.lineno, lazy))
        for child in ast.iter_child_nodes(node):
            visit(child, lazy=lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(ast.parse(source), lazy=False)
    return found


def room(module: str) -> str:
    """The server's room that a module is in."""
    return module.split(".")[1]


def server_modules() -> list[str]:
    return [module for module in sorted(modules()) if module.startswith(f"{SERVER}.")]


def violations(chosen: list[str], allowed: Callable[[str, Import], bool]) -> list[str]:
    """Each import for which ``allowed(module, entry)`` is false, as readable text."""
    return [
        f"{module}:{entry.line} imports {entry.target}"
        for module in chosen
        for entry in imports(module)
        if not allowed(module, entry)
    ]


def test_the_reader_of_imports_sees_every_kind() -> None:
    source = "import a.b\nfrom c import d\nfrom c import e\ndef f():\n    import g\nif TYPE_CHECKING:\n    import h\n"
    assert imports_in(source, frozenset({"c.d"})) == [
        Import("a.b", 1, lazy=False),
        Import("c.d", 2, lazy=False),
        Import("c", 3, lazy=False),
        Import("g", 5, lazy=True),
        Import("h", 7, lazy=False),
    ]


def test_every_room_of_the_server_has_a_floor() -> None:
    assert {room(module) for module in server_modules()} == set(FLOORS)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_pages_show_the_floors(page: str) -> None:
    table = "\n".join(["| Floor | Modules | Job |", "|---|---|---|", *(floor.row for floor in HOUSE)])
    assert table in (ROOT / page).read_text(encoding="utf-8"), f"{page} must show this table:\n{table}"


def test_the_server_imports_downstairs() -> None:
    def allowed(module: str, entry: Import) -> bool:
        if entry.package != SERVER or entry.target == SERVER:
            return True
        return FLOORS[room(entry.target)] <= FLOORS[room(module)]

    assert violations(server_modules(), allowed) == []


def test_only_the_grpc_protocol_knows_grpc_and_protobuf() -> None:
    chosen = [module for module in server_modules() if not module.startswith(f"{PROTOCOLS}.grpc")]
    assert violations(chosen, lambda _, entry: entry.package not in RPC_PACKAGES) == []


@pytest.mark.parametrize(
    ("folder", "strangers"),
    [
        ("kserve", ("grpc", "http", "console")),
        ("http", ("grpc",)),
        ("grpc", ("http", "console")),
    ],
)
def test_one_wire_does_not_know_the_other(folder: str, strangers: tuple[str, ...]) -> None:
    chosen = [module for module in server_modules() if module.startswith(f"{PROTOCOLS}.{folder}")]
    unknown = (*(f"{PROTOCOLS}.{stranger}" for stranger in strangers), *(["aiohttp"] if "http" in strangers else []))
    assert chosen
    assert violations(chosen, lambda _, entry: not entry.target.startswith(unknown)) == []


def test_only_workers_run_models() -> None:
    chosen = [module for module in server_modules() if room(module) not in ("worker", "backends")]
    run_models = (f"{SERVER}.worker", f"{SERVER}.backends")
    assert violations(chosen, lambda _, entry: not entry.target.startswith(run_models)) == []


def test_runtimes_are_imported_when_a_model_is_loaded() -> None:
    assert violations(server_modules(), lambda _, entry: entry.lazy or entry.package not in RUNTIME_PACKAGES) == []


def test_the_server_uses_no_package_of_ours_but_the_protos() -> None:
    allowed = {SERVER, "repserve_protos"}
    assert violations(server_modules(), lambda _, e: e.package not in PACKAGES or e.package in allowed) == []


@pytest.mark.parametrize("package", sorted(LENT_PACKAGES))
def test_the_other_packages_keep_to_what_they_may_use(package: str) -> None:
    def allowed(_: str, entry: Import) -> bool:
        if entry.package not in PACKAGES or entry.package in (package, *LENT_PACKAGES[package]):
            return True
        if entry.package != SERVER or package not in ("repserve_bench", "repserve_convert"):
            return False
        return FLOORS[room(entry.target)] <= LENT_FLOOR

    chosen = [module for module in sorted(modules()) if module.partition(".")[0] == package]
    assert chosen
    assert violations(chosen, allowed) == []


@pytest.mark.parametrize("package", ["repserve_client", "repserve_bench", "repserve_convert"])
def test_only_the_server_registers_the_messages_of_kserve(package: str) -> None:
    # NVIDIA's client registers the same names, and may be in the same process as ours.
    chosen = [module for module in sorted(modules()) if module.partition(".")[0] == package]
    assert violations(chosen, lambda _, entry: not entry.target.startswith("repserve_protos.inference")) == []


def test_there_are_no_import_cycles() -> None:
    graph = {module: {e.target for e in imports(module) if e.target in modules()} - {module} for module in modules()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(reversed(error.args[1]))}")
    assert len(order) == len(modules())


@pytest.mark.parametrize("folder", ["protos", "client", "server", "bench", "convert", "tests", "tools"])
def test_modules_are_short(folder: str) -> None:
    sources = [path for path in (ROOT / folder).rglob("*.py") if not GENERATED.search(path.name)]
    assert sources
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    long = {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > MAX_LINES}
    assert long == {}


def test_the_wheel_holds_the_five_packages_and_no_tools() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted(f"{folder.name}/{name}" for name, folder in PACKAGES.items())


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_say_that_they_are_typed(package: str) -> None:
    assert (PACKAGES[package] / package / "py.typed").is_file()


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_init_files_only_hand_names_on(package: str) -> None:
    kinds = (ast.Import, ast.ImportFrom)
    for path in (PACKAGES[package] / package).rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            handed_on = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            assert docstring or handed_on or isinstance(node, kinds), f"{path}:{node.lineno}"


def test_what_tests_share_is_in_support() -> None:
    pattern = re.compile(r"^\s*from (unit|integration|e2e|convert)\b", re.MULTILINE)
    found = [path for path in (ROOT / "tests").rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_machine_paths_are_recognised() -> None:
    folder = b"home"
    assert MACHINE_PATH.search(b'PATH = "/' + folder + b'/someone/data"')
    assert not MACHINE_PATH.search(b"https://example.com/" + folder + b"/page and a/" + folder + b"/b")


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    assert paths
    found = [str(p.relative_to(ROOT)) for p in paths if p.is_file() and MACHINE_PATH.search(p.read_bytes())]
    assert found == []
