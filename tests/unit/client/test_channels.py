from __future__ import annotations

import pytest

from repserve_client.channels import LeastInFlight, channel_options, checked_address


def test_idle_channels_take_turns() -> None:
    picker = LeastInFlight(3)
    order = []
    for _ in range(6):
        channel = picker.pick()
        order.append(channel)
        picker.release(channel)
    assert order == [0, 1, 2, 0, 1, 2]


def test_the_channel_with_the_fewest_calls_is_picked() -> None:
    picker = LeastInFlight(3)
    assert sorted(picker.pick() for _ in range(3)) == [0, 1, 2]
    picker.release(1)
    assert picker.pick() == 1
    assert sorted(picker.pick() for _ in range(3)) == [0, 1, 2]


def test_a_client_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LeastInFlight(0)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8001", "https://host:1", "localhost", ""])
def test_an_address_that_is_not_one_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        checked_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1:8001", "[::1]:8001", "dns:///host:8001", "unix:/run/repserve"])
def test_addresses_are_passed_on(address: str) -> None:
    assert checked_address(address) == address


def test_pings_are_rarer_than_a_default_server_tolerates() -> None:
    assert dict(channel_options("host:1"))["grpc.keepalive_time_ms"] > 300_000  # type: ignore[operator]


def test_only_other_machines_are_reached_through_a_proxy() -> None:
    assert dict(channel_options("127.0.0.1:1"))["grpc.enable_http_proxy"] == 0
    assert "grpc.enable_http_proxy" not in dict(channel_options("host:1"))
