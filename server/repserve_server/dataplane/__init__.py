"""From images to scores: knows slots and workers, and neither protobuf nor HTTP."""
