"""KServe v2, the Open Inference Protocol, with the extensions that its clients use: generated code."""
