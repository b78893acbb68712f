"""``repserve classify``: image files in, ranked classes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from repserve_client.client import Client
from repserve_client.errors import ClientError, DeadlineExceededError, UnavailableError
from repserve_client.results import Classification, Prediction
from repserve_client.retry import RetryPolicy
from repserve_client.window import Outcome

_RETRY = RetryPolicy(max_attempts=4)


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--server", default="127.0.0.1:8001", show_default=True, help="The server's gRPC address.")
@click.option("--model", default="", help="Name of the model; needed if the server serves several.")
@click.option("--model-version", default="", help="Version of the model.  [default: the newest]")
@click.option(
    "--top-k",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    help="Classes to show for each image.",
)
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds each image may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with one object per image.")
def classify(
    *,
    images: tuple[str, ...],
    server: str,
    model: str,
    model_version: str,
    top_k: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Classify image files on a running server.

    Failures are reported on standard error; the other images are still classified, and the exit status is 1.
    """
    failed = False
    records: list[dict[str, object]] = []
    try:
        with Client(server, timeout=timeout, retry=_RETRY) as client:
            _check_reachable(client, server)
            for path, outcome in zip(images, _outcomes(client, images, model, model_version, top_k), strict=True):
                if isinstance(outcome, ClientError):
                    failed = True
                    click.echo(f"Error: {_naming(path, outcome.message)}", err=True)
                if as_json:
                    records.append(_record(path, outcome))
                elif not isinstance(outcome, ClientError):
                    click.echo(_table(path, outcome))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except ClientError as error:
        raise click.ClickException(error.message) from error
    if as_json:
        click.echo(json.dumps(records, indent=2))
    if failed:
        raise click.exceptions.Exit(1)


def _check_reachable(client: Client, server: str) -> None:
    """Call the server once, so that its absence is reported once and not for each image."""
    try:
        client.models()
    except (UnavailableError, DeadlineExceededError) as error:
        raise click.ClickException(f"cannot reach the server at {server}: {error.message}") from error


def _outcomes(client: Client, images: tuple[str, ...], model: str, version: str, top_k: int) -> Iterator[Outcome]:
    if len(images) > 1:
        yield from client.classify_stream(images, model=model, version=version, top_k=top_k)
        return
    try:
        yield client.classify(images[0], model=model, version=version, top_k=top_k)
    except ClientError as error:
        yield error


def _naming(path: str, message: str) -> str:
    return message if path in message else f"{path}: {message}"


def _table(path: str, classification: Classification) -> str:
    prediction = classification.predictions[0]
    width = max([len("label"), *(len(ranked.label) for ranked in prediction.classes)])
    lines = [
        f"{path}  (model {classification.model}, version {classification.version})",
        f"  rank  index  {'label':<{width}}  probability",
    ]
    lines += [
        f"  {rank:>4}  {ranked.index:>5}  {ranked.label:<{width}}  {ranked.probability:>11.4f}"
        for rank, ranked in enumerate(prediction.classes, 1)
    ]
    lines.append(
        f"  decode {_milliseconds(classification.decode_seconds)}, "
        f"queue {_milliseconds(prediction.queue_seconds)}, "
        f"compute {_milliseconds(prediction.compute_seconds)} in a batch of {prediction.batch_size}"
    )
    return "\n".join(lines)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _record(path: str, outcome: Outcome) -> dict[str, object]:
    """Make one image's entry: either ``error``, or the fields of its answer."""
    if isinstance(outcome, ClientError):
        return {"file": path, "error": {"code": outcome.code, "message": outcome.message}}
    prediction: Prediction = outcome.predictions[0]
    return {
        "file": path,
        "model": outcome.model,
        "version": outcome.version,
        "classes": [asdict(ranked) for ranked in prediction.classes],
        "batch_size": prediction.batch_size,
        "decode_seconds": outcome.decode_seconds,
        "queue_seconds": prediction.queue_seconds,
        "compute_seconds": prediction.compute_seconds,
    }
