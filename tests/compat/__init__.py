"""The compatibility matrix: every client does the same, each in its own way, and the same is asserted of all."""
