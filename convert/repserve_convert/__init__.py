"""Making model files: RepVGG weights re-parameterised into ONNX, and the training of the bundled model."""
