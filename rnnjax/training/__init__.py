"""Training: a pure step, and a loop that owns the order of things. Knows `task.py`, never `tasks/`."""
