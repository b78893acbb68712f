"""The supervisor: reads the repository, keeps frontends and workers running, drains, shows metrics and health."""
