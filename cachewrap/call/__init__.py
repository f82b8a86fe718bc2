"""How one request is answered: the heart of the package."""
