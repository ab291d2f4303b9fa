"""Histories of real clients: unique values through several libraries at once, while members come and go and the broker is
restarted and killed. What was read is then held against what was acknowledged."""
