"""`trader settings` and `coordinator settings`: what each means, what it is, and how it is changed."""
