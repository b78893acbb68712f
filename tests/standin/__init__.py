"""A stand-in for the NPU's Python packages, aclruntime and ais_bench: it runs ONNX and keeps the real ones' rules.

This folder goes in front on PYTHONPATH; ``support.standin_models.standin_environment`` says how. The rules come from
the source of the three generations of the real packages, and from runs of the real binary over a driver that was none.
A figure that the stand-in gives is never one of an NPU.
"""
