"""The planner against other ways to choose batches, in a simulation on published costs; no device is measured."""
