"""The gRPC services of a frontend."""
