"""What runs a model: one module a runtime, all behind the ``Backend`` protocol."""
