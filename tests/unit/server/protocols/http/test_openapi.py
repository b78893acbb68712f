"""The OpenAPI document and the routes say the same."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from typing import Any, cast

from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.dataplane.recorder import Recorder
from repserve_server.protocols.http.routes import RestRoutes, load_openapi
from repserve_server.protocols.http.routing import OPENAPI_PATH
from repserve_server.protocols.kserve.core import InferenceCore

DOCUMENT: Any = load_openapi()


def test_every_route_is_described_and_nothing_else() -> None:
    table = RestRoutes(cast("InferenceCore", None), Recorder(FrontendMetrics())).table()
    served = {(method, path) for method, path, _ in table if path != OPENAPI_PATH}
    described = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]
    assert sorted(described) == sorted(served)


def test_every_part_of_a_path_is_a_parameter() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            named = [reference["$ref"].rpartition("/")[2] for reference in operation.get("parameters", [])]
            assert named == re.findall(r"{(\w+)}", path)


def test_every_reference_leads_somewhere() -> None:
    references = set(re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', json.dumps(DOCUMENT)))
    components = {(kind, name) for kind, parts in DOCUMENT["components"].items() for name in parts}
    assert references == components


def test_the_version_is_the_servers() -> None:
    assert DOCUMENT["info"]["version"] == version("repserve")
