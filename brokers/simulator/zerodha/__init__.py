"""Zerodha's dialect: Kite Connect v3, its ticker's text frames and its postbacks."""
