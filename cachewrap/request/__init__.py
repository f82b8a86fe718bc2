"""What is asked, and its key."""
