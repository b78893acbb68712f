"""The RepServe server: frontends, workers and their supervisor."""
