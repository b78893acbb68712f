"""MLPerf LoadGen drives a server, by its own rules and with its own logs."""
