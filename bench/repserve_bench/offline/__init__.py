"""The RepVGG offline guide's steps, with its arguments and its files: preprocess, infer, accuracy, throughput."""
