"""Commands of the documentation, run as they are written in a network of their own."""
