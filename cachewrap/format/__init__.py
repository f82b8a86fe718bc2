"""Formats of what is stored, byte by byte."""
