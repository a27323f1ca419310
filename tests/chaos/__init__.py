"""Exactly once under fire: a stack of its own, a hostile broker, and everything that may die, dying. See docs/reliability.md."""
