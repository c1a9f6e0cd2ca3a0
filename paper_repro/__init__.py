"""The paper's claims, tested: tasks, encoders, experiments, runs and their comparison."""
