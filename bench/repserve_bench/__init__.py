"""Load, accuracy and the RepVGG guide's table: measures a running RepServe."""
