"""What a machine says of its Ascend chips, and what is written down beside compiled models. Needs no CANN."""
