"""The bundled model: a small RepVGG that reads handwritten digits, its training and its model card."""
