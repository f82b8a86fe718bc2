"""Suggestions: rules that would join stored requests, and pairs of them that mean the same.

Nothing here changes what is stored, and nothing is asked of a model.
"""
