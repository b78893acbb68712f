"""A worker: one process that runs one model version on one device."""
