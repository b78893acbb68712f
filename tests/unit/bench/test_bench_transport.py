from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_bench.transport import frame, reframe, varint
from repserve_protos.v1 import classification_pb2 as pb

identities = st.integers(0, 2**64 - 1)
timeouts = st.floats(0.0001, 100_000.0)


@given(identity=identities, timeout=timeouts, data=st.binary(max_size=400))
def test_a_frame_is_the_serialised_stream_request(identity: int, timeout: float, data: bytes) -> None:
    request = pb.ClassifyRequest(model="m", encoded_image=data)
    parsed = pb.ClassifyStreamRequest.FromString(frame(identity, request.SerializeToString(), timeout))
    assert parsed.id == identity
    assert parsed.request == request
    assert parsed.timeout_milliseconds == max(1, int(timeout * 1000))


@given(first=identities, second=st.integers(1, 2**64 - 1))
def test_a_reframed_request_has_the_new_id_and_timeout(first: int, second: int) -> None:
    request = pb.ClassifyRequest(model="m", encoded_image=b"image")
    framed = reframe(frame(first, request.SerializeToString(), 30.0), second, 0.5)
    parsed = pb.ClassifyStreamRequest.FromString(framed)
    assert (parsed.id, parsed.timeout_milliseconds, parsed.request) == (second, 500, request)


@pytest.mark.parametrize(("value", "encoded"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_varints(value: int, encoded: bytes) -> None:
    assert varint(value) == encoded
