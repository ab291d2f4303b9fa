"""What the tests with real clients stand on: brokers as processes, the flights, and the clients."""
