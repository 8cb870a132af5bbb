"""Import published files as parameters of ours, every tensor accounted for."""
