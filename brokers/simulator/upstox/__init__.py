"""Upstox's dialect: its REST API (v2 and v3), its portfolio stream and its webhooks."""
