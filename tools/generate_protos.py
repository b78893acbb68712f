"""Generate the gRPC stubs beside their .proto files, or check that the committed ones are current."""

from __future__ import annotations

import argparse
import filecmp
import os
import sys
import tempfile
from importlib import resources
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(target: Path) -> list[Path]:
    """Write the stubs of every .proto below ``target``, laid out as they are under protos/."""
    # protoc finds the mypy plug-in on the PATH, and it is installed beside this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    sources = sorted(PROTOS.rglob("*.proto"))
    arguments = [
        "protoc",
        f"-I{PROTOS}",
        f"-I{resources.files(grpc_tools) / '_proto'}",
        f"-I{_googleapis()}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out=quiet:{target}",
        *(str(source) for source in sources),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed: see the messages above")
    return [source.relative_to(PROTOS).with_name(source.stem + suffix) for source in sources for suffix in SUFFIXES]


def _googleapis() -> Path:
    """Where googleapis-common-protos keeps google/rpc/status.proto."""
    from google.rpc import status_pb2

    return Path(status_pb2.__file__).parent.parent.parent


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a committed stub is not current")
    if not parser.parse_args().check:
        generate(PROTOS)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        stale = [
            str(name)
            for name in generate(Path(folder))
            if not (PROTOS / name).exists() or not filecmp.cmp(PROTOS / name, Path(folder, name), shallow=False)
        ]
    if stale:
        print(f"not current: {', '.join(stale)}; run `make protos` and commit the result")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
