"""A wave as it runs: phases, gates, journal, what it exports, and the page made of it."""
