"""Experiments over settings: tuning of the decoder on a model's maps."""
