"""What happens when something goes wrong: faults done to the real commands, and what they cost. `make faults`."""
