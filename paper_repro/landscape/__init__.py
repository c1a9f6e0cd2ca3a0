"""Measures of a loss landscape: spectra, sharpness, gradient noise and slices, each tested where the answer is known."""
