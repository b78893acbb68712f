"""Conversion of RepVGG weights into ONNX models, and of those into compiled models for Ascend chips."""
