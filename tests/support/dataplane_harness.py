"""A dataplane over a queue with workers that tests play by hand."""

from __future__ import annotations

import io

from PIL import Image

from repserve_server.channel.model_info import ModelInfo
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.dataplane import Dataplane
from repserve_server.dataplane.decoding import DecodePool
from repserve_server.dataplane.models import ModelTable
from repserve_server.imaging.preprocessing import Preprocessing
from support.queue_harness import QueueHarness, settle

PIXELS = Preprocessing(resize=2, crop=2)


class DataplaneHarness(QueueHarness):
    """A dataplane with one model on one queue."""

    def __init__(self, slots: int = 8, dtype: str = "uint8") -> None:
        super().__init__(slots, dtype)
        models = ModelTable()
        models.open(0, self.queue)
        models.update([ModelInfo("digits", "1", "ready", "", preprocessing=PIXELS, max_batch_size=4, classes=4)])
        self.decoding = DecodePool(1, 1_000_000, self.clock)
        self.dataplane = Dataplane(models, self.decoding, self.clock)
        self.call = Call(self.clock.now + 100.0)
        self.served = models.find("digits", "")

    async def until_submitted(self) -> None:
        """Until the queue holds a flight: decoding is over and the image is with its worker."""
        for _ in range(100_000):
            if self.queue._flights.count:
                return
            await settle(1)
        raise AssertionError("nothing reached the queue")

    async def until_free(self) -> None:
        """Until every slot is back."""
        for _ in range(100_000):
            if self.queue.occupied == 0:
                return
            await settle(1)
        raise AssertionError("a slot stays taken")


def png(grey: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (2, 2), (grey, grey, grey)).save(data, "PNG")
    return data.getvalue()
