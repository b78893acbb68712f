from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from repserve_bench.transport.stream import readdress, stream_request
from repserve_protos.v1 import classification_pb2 as pb

identities = st.integers(0, 2**64 - 1)
timeouts = st.floats(0.0001, 100_000.0)


@given(identity=identities, timeout=timeouts)
def test_a_stream_request_carries_its_timeout_in_milliseconds(identity: int, timeout: float) -> None:
    request = pb.ClassifyRequest(model="m", encoded_image=b"image")
    made = stream_request(identity, timeout, request)
    assert (made.id, made.request) == (identity, request)
    assert made.timeout_milliseconds == max(1, int(timeout * 1000))


def test_a_timeout_of_years_is_cut_to_the_longest() -> None:
    assert stream_request(1, 1e9).timeout_milliseconds == 2**32 - 1


@given(first=identities, second=st.integers(1, 2**64 - 1), data=st.binary(max_size=400))
def test_a_readdressed_request_has_the_new_id_and_timeout(first: int, second: int, data: bytes) -> None:
    request = pb.ClassifyRequest(model="m", encoded_image=data)
    payload = readdress(stream_request(first, 30.0, request).SerializeToString(), second, 0.5)
    parsed = pb.ClassifyStreamRequest.FromString(payload)
    assert (parsed.id, parsed.timeout_milliseconds, parsed.request) == (second, 500, request)
