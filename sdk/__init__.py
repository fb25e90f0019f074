"""Durable virtual objects for Python."""
