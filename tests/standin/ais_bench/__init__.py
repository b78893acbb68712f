"""The stand-in's ``ais_bench``."""
