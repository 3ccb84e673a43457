"""The engine: operations, the handlers that answer them, the cells they work on."""
