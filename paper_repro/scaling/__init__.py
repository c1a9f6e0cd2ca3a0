"""Data-parallel training time: a model with measured inputs, validated, then used to predict what could not be run."""
