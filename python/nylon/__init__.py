"""Nylon: an HTTP gateway that people extend with plugins."""
