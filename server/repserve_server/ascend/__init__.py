"""What a machine reports about its Ascend chips and their software. Needs no CANN."""
