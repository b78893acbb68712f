"""Checks of what the kernel allows the server: its ports, open files, locked memory and core dumps."""

from __future__ import annotations

import functools
from contextlib import ExitStack

from repserve_server.doctor.check import Check, Group, Status
from repserve_server.doctor.machine import UNLIMITED, Machine
from repserve_server.settings import Settings
from repserve_server.supervisor.ports import PortTakenError, join_address, reserve_port

_OWN_FILES = 64
"""Descriptors that a frontend holds without a connection, with room to spare: 22 with one model and worker."""
_FEW_CONNECTIONS = 256
_check = functools.partial(Check, Group.MACHINE)


def check_ports(settings: Settings) -> list[Check]:
    """Check that the server can listen on all of its ports at once."""
    ports = (
        ("gRPC port", settings.grpc_port, "--grpc-port"),
        ("HTTP port", settings.http_port, "--http-port"),
        ("metrics port", settings.metrics_port, "--metrics-port"),
    )
    checks = []
    with ExitStack() as taken:
        for name, port, flag in ports:
            try:
                reservation = reserve_port(settings.host, port, flag)
            except PortTakenError as error:
                found, _, _ = str(error).partition(";")
                advice = f"stop what listens there (`ss -ltnp 'sport = :{port}'` shows it), or choose another {flag}"
                checks.append(_check(name, Status.PROBLEM, found, advice))
                continue
            taken.callback(reservation.close)
            where = join_address(settings.host, port)
            checks.append(_check(name, Status.OK, f"{where} is free" if port else "0: the server picks a free one"))
    return checks


def check_limits(machine: Machine, settings: Settings) -> list[Check]:
    """Check the limits that ``ulimit`` shows."""
    locked, core = machine.limits["memlock"], machine.limits["core"]
    dumps = (
        "off: a crash of a vendor's library leaves no core file"
        if core == 0
        else (f"up to {_bytes(core)} for each crash")
    )
    return [
        _check_open_files(machine.limits["nofile"], settings),
        _check("locked memory", Status.OK, f"{_bytes(locked)}; the server locks none"),
        _check("core dumps", Status.OK, dumps),
    ]


def _check_open_files(limit: int, settings: Settings) -> Check:
    name = "open files"
    if limit == UNLIMITED:
        return _check(name, Status.OK, "unlimited")
    connections = limit - _OWN_FILES
    advice = "raise it: `ulimit -n 65536` in the shell, LimitNOFILE=65536 with systemd"
    if connections <= 0:
        return _check(name, Status.PROBLEM, f"{limit:,} a process, too few for a frontend alone", advice)
    found = f"{limit:,} a process: room for {connections:,} connections"
    if settings.frontend_count > 1:
        found += f" to each of {settings.frontend_count} frontends"
    if connections < _FEW_CONNECTIONS:
        return _check(name, Status.WARNING, found, advice)
    return _check(name, Status.OK, found)


def _bytes(limit: int) -> str:
    return "unlimited" if limit == UNLIMITED else f"{limit / 1e6:,.1f} MB"
