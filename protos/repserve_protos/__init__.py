"""The gRPC protocol of RepServe and its generated stubs."""
