"""The gRPC server of a frontend: services, reflection, limits."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from repserve_protos.inference.grpc_service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from repserve_protos.v1.classification_pb2_grpc import add_ClassificationServicer_to_server
from repserve_server.protocols.grpc.classification import ClassificationService
from repserve_server.protocols.grpc.health import CLASSIFICATION, INFERENCE, Health
from repserve_server.protocols.grpc.inference import InferenceService

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Of a gRPC message; the library's own limit of 4 MB is less than one large photo."""

_OPTIONS = (
    # Several frontends listen on one port; the kernel spreads connections over them.
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Clients may check a quiet connection every ten seconds without being cut off.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


def create_grpc_server(
    classification: ClassificationService, inference: InferenceService, health: Health, address: str
) -> grpc.aio.Server:
    """Create a server with all services; it listens on ``address`` once it is started.

    Raises:
        RuntimeError: the address cannot be bound.
    """
    server = grpc.aio.server(options=_OPTIONS)
    add_ClassificationServicer_to_server(classification, server)
    add_GRPCInferenceServiceServicer_to_server(inference, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    health_service = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection((CLASSIFICATION, INFERENCE, health_service, reflection.SERVICE_NAME), server)
    server.add_insecure_port(address)
    return server
