"""How fast this project is, each cost beside the floor that arithmetic and machine allow. `python -m paper_repro.bench`."""
