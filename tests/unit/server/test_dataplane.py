"""The dataplane from bytes to scores: checks, drain, and slots that come back however a request ends."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from repserve_server.dataplane.dataplane import Dataplane
from repserve_server.dataplane.decoding import DecodePool
from repserve_server.dataplane.models import ModelInfo, ModelTable
from repserve_server.errors import DeadlineError, DrainingError, ImageError, InvalidRequestError, ModelNotFoundError
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing
from unit.server.fakes import scores_of
from unit.server.queue_harness import WAIT_SECONDS, QueueHarness, first_score, run_async, settle

PIXELS = Preprocessing(resize=2, crop=2)


class DataplaneHarness(QueueHarness):
    """A dataplane with one model on one queue."""

    def __init__(self, slots: int = 8, dtype: str = "uint8") -> None:
        super().__init__(slots, dtype)
        models = ModelTable()
        models.open("digits", "1", self.queue)
        models.update([ModelInfo("digits", "1", "ready", "", preprocessing=PIXELS, max_batch=4, classes=4)])
        self.decoding = DecodePool(1, 1_000_000, self.clock)
        self.dataplane = Dataplane(models, self.decoding, self.metrics, self.clock)
        self.deadline = self.clock.now + 100.0

    async def until_submitted(self) -> None:
        """Until the queue holds a flight: decoding is over and the image is with its worker."""
        for _ in range(100_000):
            if self.queue._flights.count:
                return
            await settle(1)
        raise AssertionError("nothing reached the queue")


def png(grey: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (2, 2), (grey, grey, grey)).save(data, "PNG")
    return data.getvalue()


def test_an_encoded_image_comes_back_as_scores() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        worker = harness.start_worker()
        task = asyncio.ensure_future(harness.dataplane.classify_encoded(png(9), "digits", "", harness.deadline))
        await harness.until_submitted()
        await settle()
        worker.answer(worker.read())
        scored = await asyncio.wait_for(task, WAIT_SECONDS)
        assert first_score(scored.images[0]) == 9 * 12
        assert (scored.model.name, scored.model.version) == ("digits", "1")
        assert scored.decode_seconds > 0
        assert harness.queue.occupied == 0
        assert harness.metrics.registry.get_sample_value("repserve_images_total") == 1

    run_async(test)


def test_a_model_of_float32_input_gets_normalised_images_from_both_kinds_of_request() -> None:
    async def test() -> None:
        harness = DataplaneHarness(dtype="float32")
        worker = harness.start_worker()
        encoded = asyncio.ensure_future(harness.dataplane.classify_encoded(png(9), "digits", "", harness.deadline))
        await harness.until_submitted()
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
        cropped = asyncio.ensure_future(
            harness.dataplane.classify_pixels(pixels.tobytes(), 2, "digits", "", harness.deadline)
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
            taken = harness.queue.admit(4)
            harness.queue.give_back([taken[0], taken[2]])
        rows = np.random.default_rng(1).integers(0, 256, (3, 2, 2, 3), np.uint8)
        task = asyncio.ensure_future(
            harness.dataplane.classify_pixels(rows.tobytes(), 3, "digits", "1", harness.deadline)
        )
        await settle()
        worker.answer(worker.read())
        scored = await asyncio.wait_for(task, WAIT_SECONDS)
        assert [first_score(image) for image in scored.images] == [scores_of(row)[0] for row in rows]

    run_async(test)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (0, 0, r"pixels\.count is 0; model 'digits' takes 1 to 4 images"),
        (5, 60, r"pixels\.count is 5; model 'digits' takes 1 to 4 images"),
        (2, 23, r"pixels\.data has 23 bytes; 2 x 2 x 2 x 3 uint8 values are 24"),
        (1, 0, r"pixels\.data has 0 bytes"),
    ],
)
def test_pixels_of_a_wrong_size_are_refused_and_take_no_slot(images: int, size: int, message: str) -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        with pytest.raises(InvalidRequestError, match=message):
            await harness.dataplane.classify_pixels(bytes(size), images, "digits", "", harness.deadline)
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_corrupt_image_gives_its_slot_back_and_is_counted() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        with pytest.raises(ImageError) as caught:
            await harness.dataplane.classify_encoded(png(9)[:40], "digits", "", harness.deadline)
        await settle()
        assert harness.queue.occupied == 0
        value = harness.metrics.registry.get_sample_value("repserve_rejected_images_total", {"kind": caught.value.kind})
        assert value == 1

    run_async(test)


def test_an_unknown_model_takes_no_slot() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        with pytest.raises(ModelNotFoundError):
            await harness.dataplane.classify_encoded(png(9), "cats", "", harness.deadline)
        assert harness.queue.occupied == 0
        await asyncio.wait_for(harness.dataplane.drain(), WAIT_SECONDS)

    run_async(test)


def test_a_request_that_is_late_after_decoding_gives_its_slot_back() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        with pytest.raises(DeadlineError):
            await harness.dataplane.classify_encoded(png(9), "digits", "", harness.clock.now - 1.0)
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_drain_waits_for_what_is_in_flight_and_refuses_the_rest() -> None:
    async def test() -> None:
        harness = DataplaneHarness()
        worker = harness.start_worker()
        request = asyncio.ensure_future(harness.dataplane.classify_pixels(bytes(12), 1, "digits", "", harness.deadline))
        await settle()
        drain = asyncio.ensure_future(harness.dataplane.drain())
        await settle()
        assert not drain.done()
        with pytest.raises(DrainingError):
            await harness.dataplane.classify_pixels(bytes(12), 1, "digits", "", harness.deadline)
        with pytest.raises(DrainingError):
            await harness.dataplane.classify_encoded(png(9), "digits", "", harness.deadline)
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
        request = asyncio.ensure_future(harness.dataplane.classify_pixels(bytes(12), 1, "digits", "", harness.deadline))
        await settle()
        drain = asyncio.ensure_future(harness.dataplane.drain())
        request.cancel()
        await asyncio.wait_for(drain, WAIT_SECONDS)
        assert harness.queue.occupied == 0

    run_async(test)
