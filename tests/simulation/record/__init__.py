"""The record in memory. Each file stands for the one of its name in `store/`, and has its functions by their names."""
