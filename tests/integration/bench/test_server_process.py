from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from repserve_bench import server_process
from repserve_bench.server_process import ServerError, ServerProcess, ServerSettings

READY = """
import json, os, signal, subprocess, sys
from pathlib import Path
{before}
child = subprocess.Popen([sys.executable, "-c", "sum(range(3_000_000)); import sys; sys.stdin.read()"],
                         stdin=subprocess.PIPE)
ready = {{"grpc": "127.0.0.1:1", "metrics": "http://127.0.0.1:2", "pid": os.getpid()}}
Path(sys.argv[1] + ".part").write_text(json.dumps(ready))
Path(sys.argv[1] + ".part").rename(sys.argv[1])
signal.pause()
"""


@dataclass(frozen=True)
class StandIn(ServerSettings):
    """Starts a script in place of the server."""

    script: str = ""

    def command(self, ready_file: Path) -> list[str]:
        return [sys.executable, "-c", self.script, str(ready_file)]


def stand_in(script: str) -> StandIn:
    return StandIn(Path("model_repo"), "cpu", script=script)


def processes_of(server: ServerProcess) -> list[psutil.Process]:
    assert server._process is not None
    parent = psutil.Process(server._process.pid)
    return [parent, *parent.children(recursive=True)]


def test_a_server_is_ready_inside_the_block_and_gone_after_it() -> None:
    with ServerProcess(stand_in(READY.format(before=""))) as server:
        assert server.address == "127.0.0.1:1"
        assert server.metrics_url == "http://127.0.0.1:2"
        assert server.cpu_seconds() > 0
        processes = processes_of(server)
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert server.cpu_seconds() == 0


def test_a_server_that_ends_early_is_an_error_with_its_last_words() -> None:
    script = "import sys; print('model_repo: no such folder', file=sys.stderr); sys.exit(3)"
    with (
        pytest.raises(ServerError, match=r"exit status 3 before it was ready:\nmodel_repo: no such folder"),
        ServerProcess(stand_in(script)),
    ):
        pytest.fail("it is not ready")


def test_a_server_that_does_not_get_ready_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "START_TIMEOUT", 0.5)
    server = ServerProcess(stand_in("import signal; print('loading', flush=True); signal.pause()"))
    with pytest.raises(ServerError, match="not ready after"), server:
        pytest.fail("it is not ready")
    assert server._process is None


def test_a_server_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "STOP_TIMEOUT", 0.5)
    script = READY.format(before="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    # signal.pause() returns only for signals with a handler, so the script outlives SIGTERM.
    with ServerProcess(stand_in(script)) as server:
        processes = processes_of(server)
    assert not psutil.wait_procs(processes, timeout=10)[1]


def test_the_command_line_has_every_setting() -> None:
    settings = ServerSettings(
        Path("repo"), "sim:310p", models=("a", "b"), max_batch_size=16, precision="f32", extra=("--frontends", "2")
    )
    command = settings.command(Path("ready.json"))
    line = " ".join(command[command.index("serve") :])
    assert line == (
        "serve --model-repository repo --device sim:310p --host 127.0.0.1 --shutdown-delay-seconds 0 "
        "--grpc-port 0 --http-port 0 --metrics-port 0 "
        "--ready-file ready.json --max-batch-size 16 --precision f32 --model a --model b --frontends 2"
    )
