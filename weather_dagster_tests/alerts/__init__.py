"""Alerts: the book, the messages, and their delivery."""
