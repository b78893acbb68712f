"""Classifies images on a RepServe server, from Python and from the command line."""

from repserve_client.aio import AsyncClient
from repserve_client.client import Client
from repserve_client.errors import (
    ClientClosedError,
    ClientError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from repserve_client.requests import ImageInput
from repserve_client.results import Classification, InstanceInfo, ModelInfo, Prediction, RankedClass
from repserve_client.retry import RetryPolicy

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "ClientClosedError",
    "ClientError",
    "DeadlineExceededError",
    "ImageInput",
    "InstanceInfo",
    "InternalError",
    "InvalidArgumentError",
    "ModelInfo",
    "NotFoundError",
    "PermissionDeniedError",
    "Prediction",
    "RankedClass",
    "ResourceExhaustedError",
    "RetryPolicy",
    "UnauthenticatedError",
    "UnavailableError",
]
