"""``repserve.v1``: classification of images."""
