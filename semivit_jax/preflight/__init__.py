"""`semivit plan`: what a run will need on a slice or host, worked out before anything is paid for."""
