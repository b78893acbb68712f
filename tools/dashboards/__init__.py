"""The Grafana dashboards, described in Python."""
