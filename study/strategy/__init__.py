"""What to try next, and when to stop a trial."""
