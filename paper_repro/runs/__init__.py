"""Experiments, the runs they stand for, and their results as files."""
