"""The ways in which requests travel: streams, unary calls, KServe v2."""
