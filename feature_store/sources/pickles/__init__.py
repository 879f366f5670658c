"""Reads numeric pickles without running what they hold."""
