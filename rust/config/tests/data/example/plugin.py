"""The plugin of the example configuration; it is never loaded by the tests."""
