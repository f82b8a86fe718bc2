"""What is stored, byte by byte."""
