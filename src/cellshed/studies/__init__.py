"""Many runs for one purpose: the paper's studies, searches of settings, and the models that ship.

Here too is what these need besides: tuning of the decoder on a model's maps, and labels that a
model makes for the next one.
"""
