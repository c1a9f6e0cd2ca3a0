"""The report: a static site made from result files, `make report` or `python -m paper_repro.report`."""
