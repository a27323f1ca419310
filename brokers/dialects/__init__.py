"""Each broker's words for ours and its words back: pure tables and translations, no HTTP."""
