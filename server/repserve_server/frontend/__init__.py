"""A frontend process: the protocols wired to the dataplane, and the supervisor spoken to."""
