"""The wire protocols: they convert messages and map errors, nothing more."""
