"""From the dataplane's results to the messages of repserve.v1."""

from __future__ import annotations

from repserve_protos.v1 import classification_pb2 as pb
from repserve_server.channel.model_info import ModelInfo
from repserve_server.dataplane.dataplane import Scored
from repserve_server.dataplane.scores import ImageScores

DEFAULT_TOP_K = 5


def to_response(scored: Scored, top_k: int) -> pb.ClassifyResponse:
    """Write the answer to a request for the ``top_k`` best classes (0: five).

    Raises:
        InferenceError: an image's scores cannot be ranked.
    """
    model = scored.model
    wanted = min(top_k or DEFAULT_TOP_K, model.classes)
    return pb.ClassifyResponse(
        model=model.name,
        version=model.version,
        predictions=[_to_prediction(image, wanted, model.labels) for image in scored.images],
        decode_microseconds=round(scored.decode_seconds * 1e6),
    )


def _to_prediction(image: ImageScores, top_k: int, labels: tuple[str, ...]) -> pb.Prediction:
    indices, probabilities = image.rank(top_k)
    return pb.Prediction(
        classes=[
            pb.RankedClass(index=index, label=labels[index] if labels else "", probability=probability)
            for index, probability in zip(indices, probabilities, strict=True)
        ],
        batch_size=image.batch_size,
        queue_microseconds=round(image.queue_seconds * 1e6),
        compute_microseconds=round(image.compute_seconds * 1e6),
    )


def model_to_message(info: ModelInfo) -> pb.Model:
    """Describe a model and the workers that run it."""
    return pb.Model(
        name=info.name,
        version=info.version,
        ready=info.ready,
        reason=info.reason,
        crop=info.preprocessing.crop,
        classes=info.classes,
        resize=info.preprocessing.resize,
        max_batch_size=info.max_batch_size,
        caution=info.caution,
        instances=[
            pb.Instance(
                device=instance.device,
                backend=instance.backend,
                precision=instance.precision,
                simulated=instance.simulated,
                batch_costs=[
                    pb.BatchCost(batch_size=size, microseconds=round(seconds * 1e6))
                    for size, seconds in instance.batch_seconds.items()
                ],
            )
            for instance in info.instances
        ],
    )
