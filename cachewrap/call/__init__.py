"""The way in which one request is answered: the heart of the package."""
