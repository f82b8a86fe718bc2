"""One HTTP exchange, of whatever library."""
