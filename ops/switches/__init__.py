"""`trader switch` and `coordinator switch`: halt, restrict and resume what is sent."""
