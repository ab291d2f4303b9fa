"""The bank: transfers between accounts by transactions, while workers and broker are killed. See __main__.py."""
