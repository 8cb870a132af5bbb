"""Work out what a run will need on a slice or host before anything is paid for."""
