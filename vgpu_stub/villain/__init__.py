"""Hostile suites: guests that attack the device, and what they find."""
