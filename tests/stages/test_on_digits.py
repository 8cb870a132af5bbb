"""What methods for skew and outsiders do to pictures of digits, against plain `fixed`: a minute, so it is slow."""
