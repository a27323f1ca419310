"""Brokers' order streams: what happens to an account's orders, told as it happens, and never twice.

A stream makes the news fast and proves nothing: what came while it was away is told nowhere, so after each connection
the book is read. Whoever listens follows one stream an account (`follow.py`); each broker's dialect is a file.
"""
