"""The tasks and the encoders: what a run is made from."""
