"""The model repository: folders of models, what model.toml says of them, and their versions."""
