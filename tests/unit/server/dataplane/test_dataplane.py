"""The dataplane from bytes to scores: checks, drain, and slots that come back however a request ends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable

import numpy as np
import pytest

from repserve_server.dataplane.call import Call
from repserve_server.dataplane.dataplane import Scored
from repserve_server.errors import (
    DeadlineError,
    DrainingError,
    ImageError,
    InvalidRequestError,
    RepServeError,
)
from repserve_server.imaging.normalise import normalise
from support.dataplane_harness import PIXELS, DataplaneHarness, png
from support.fakes import scores_of
from support.queue_harness import CALL, WAIT_SECONDS, first_score, run_async, settle


def test_an_encoded_image_comes_back_as_scores() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        worker = harness.start_worker()
        task = asyncio.ensure_future(harness.dataplane.classify_encoded((png(9),), harness.served, harness.call))
        await harness.until_submitted()
        await settle()
        worker.answer(worker.read())
        scored = await asyncio.wait_for(task, WAIT_SECONDS)
        assert first_score(scored.images[0]) == 9 * 12
        assert (scored.model.name, scored.model.version) == ("digits", "1")
        assert scored.decode_seconds > 0
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_model_of_float32_input_gets_normalised_images_from_both_kinds_of_request() -> None:
    async def test() -> None:
        harness = DataplaneHarness(dtype="float32")
        worker = harness.start_worker()
        encoded = asyncio.ensure_future(harness.dataplane.classify_encoded((png(9),), harness.served, harness.call))
        await harness.until_submitted()
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
        cropped = asyncio.ensure_future(
            harness.dataplane.classify_pixels(pixels.tobytes(), 2, harness.served, harness.call)
        )
        await settle()
        submitted = worker.read()
        given = np.stack([harness.area.images[entry.slot] for entry in submitted])
        assert given.dtype == np.float32
        nines = np.full((1, 2, 2, 3), 9, np.uint8)
        assert (given == normalise(np.concatenate([nines, pixels]), PIXELS)).all()
        worker.answer(submitted)
        assert len((await asyncio.wait_for(encoded, WAIT_SECONDS)).images) == 1
        assert len((await asyncio.wait_for(cropped, WAIT_SECONDS)).images) == 2

    run_async(test)


@pytest.mark.parametrize("scattered", [False, True])
def test_pixels_come_back_as_scores_in_order(scattered: bool) -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        worker = harness.start_worker()
        if scattered:
            taken = harness.queue.admit(4, CALL)
            harness.queue.give_back([taken[0], taken[2]])
        rows = np.random.default_rng(1).integers(0, 256, (3, 2, 2, 3), np.uint8)
        task = asyncio.ensure_future(harness.dataplane.classify_pixels(rows.tobytes(), 3, harness.served, harness.call))
        await settle()
        worker.answer(worker.read())
        scored = await asyncio.wait_for(task, WAIT_SECONDS)
        assert [first_score(image) for image in scored.images] == [scores_of(row)[0] for row in rows]

    run_async(test)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (0, 0, "the request has no image"),
        (2, 23, "the images have 23 bytes; expected 24 (2 x 2 x 2 x 3 uint8 values)"),
        (1, 0, "the images have 0 bytes"),
        (9, 108, "the request has 9 images and the queue holds 8"),
    ],
)
def test_pixels_of_a_wrong_size_are_refused_and_take_no_slot(images: int, size: int, message: str) -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        with pytest.raises(InvalidRequestError, match=re.escape(message)):
            await harness.dataplane.classify_pixels(bytes(size), images, harness.served, harness.call)
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_corrupt_image_gives_its_slot_back_and_is_counted() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        with pytest.raises(ImageError) as caught:
            await harness.dataplane.classify_encoded((png(9)[:40],), harness.served, harness.call)
        await settle()
        assert harness.queue.occupied == 0
        labels = {"model": "digits", "version": "1", "kind": caught.value.kind}
        value = harness.metrics.registry.get_sample_value("repserve_rejected_images_total", labels)
        assert value == 1

    run_async(test)


def test_a_corrupt_image_among_several_is_named_and_no_slot_stays_taken() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        images = (png(1), png(9)[:40], png(3))
        with pytest.raises(ImageError, match="image 1 of 3, counted from 0: "):
            await harness.dataplane.classify_encoded(images, harness.served, harness.call)
        await harness.until_free()

    run_async(test)


def test_several_encoded_images_are_answered_in_order() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        worker = harness.start_worker()
        images = [png(grey) for grey in (7, 5, 6)]
        task = asyncio.ensure_future(harness.dataplane.classify_encoded(images, harness.served, harness.call))
        await harness.until_submitted()
        await settle()
        worker.answer(worker.read())
        scored = await asyncio.wait_for(task, WAIT_SECONDS)
        assert [first_score(image) for image in scored.images] == [7 * 12, 5 * 12, 6 * 12]

    run_async(test)


def test_a_request_cancelled_just_as_its_images_are_decoded_gives_its_slots_back() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        task = asyncio.ensure_future(harness.dataplane.classify_encoded((png(1), png(2)), harness.served, harness.call))
        complete = harness.decoding._complete

        def complete_and_cancel() -> None:
            complete()
            task.cancel()

        harness.decoding._complete = complete_and_cancel  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), WAIT_SECONDS)
        await harness.until_free()

    run_async(test)


def test_a_tensor_is_taken_where_the_model_itself_takes_float32() -> None:
    async def test() -> None:
        harness = DataplaneHarness(dtype="float32")
        worker = harness.start_worker()
        rows = np.random.default_rng(1).random((2, 3, 2, 2), np.float32)
        task = asyncio.ensure_future(harness.dataplane.classify_tensor(rows.tobytes(), 2, harness.served, harness.call))
        await settle()
        submitted = worker.read()
        assert (np.stack([harness.area.images[entry.slot] for entry in submitted]) == rows).all()
        worker.answer(submitted)
        assert len((await asyncio.wait_for(task, WAIT_SECONDS)).images) == 2

    run_async(test)


def test_a_tensor_is_refused_where_the_model_takes_pixels() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        with pytest.raises(InvalidRequestError, match="model 'digits' takes uint8 pixels"):
            await harness.dataplane.classify_tensor(bytes(48), 1, harness.served, harness.call)
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_request_that_is_late_after_decoding_gives_its_slot_back() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        with pytest.raises(DeadlineError):
            await harness.dataplane.classify_encoded((png(9),), harness.served, Call(harness.clock.now - 1.0))
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_drain_waits_for_what_is_in_flight_and_refuses_the_rest() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        worker = harness.start_worker()
        request = asyncio.ensure_future(harness.dataplane.classify_pixels(bytes(12), 1, harness.served, harness.call))
        await settle()
        drain = asyncio.ensure_future(harness.dataplane.drain())
        await settle()
        assert not drain.done()
        with pytest.raises(DrainingError):
            await harness.dataplane.classify_pixels(bytes(12), 1, harness.served, harness.call)
        with pytest.raises(DrainingError):
            await harness.dataplane.classify_encoded((png(9),), harness.served, harness.call)
        worker.answer(worker.read())
        assert len((await asyncio.wait_for(request, WAIT_SECONDS)).images) == 1
        await asyncio.wait_for(drain, WAIT_SECONDS)

    run_async(test)


def test_a_drain_with_nothing_in_flight_is_over_at_once() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        await asyncio.wait_for(harness.dataplane.drain(), WAIT_SECONDS)
        assert harness.dataplane.draining.is_set()

    run_async(test)


def test_cancelled_requests_count_as_ended_for_a_drain() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        request = asyncio.ensure_future(harness.dataplane.classify_pixels(bytes(12), 1, harness.served, harness.call))
        await settle()
        drain = asyncio.ensure_future(harness.dataplane.drain())
        request.cancel()
        await asyncio.wait_for(drain, WAIT_SECONDS)
        assert harness.queue.occupied == 0

    run_async(test)


def test_what_is_refused_says_for_which_reason() -> None:
    async def test() -> None:
        harness = DataplaneHarness(slots=2)
        classify = harness.dataplane.classify_pixels
        refused: list[tuple[bytes, int]] = [(bytes(11), 1), (bytes(12 * 3), 3)]
        reasons = []

        async def refuse(work: Awaitable[Scored]) -> None:
            with pytest.raises(RepServeError) as refusal:
                await work
            reasons.append(refusal.value.rejection)

        for data, images in refused:
            await refuse(classify(data, images, harness.served, harness.call))
        await refuse(harness.dataplane.classify_encoded((b"no image",), harness.served, harness.call))
        waiting = asyncio.ensure_future(classify(bytes(24), 2, harness.served, harness.call))
        await settle()
        for call in (harness.call, Call(harness.clock.now + 0.001)):
            await refuse(classify(bytes(12), 1, harness.served, call))
        waiting.cancel()
        await harness.dataplane.drain()
        await refuse(classify(bytes(12), 1, harness.served, harness.call))
        assert reasons == ["invalid", "invalid", "image", "queue_full", "deadline", "draining"]

    run_async(test)
