"""HTTP exchanges, of whatever library."""
