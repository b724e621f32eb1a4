"""The query language, over tables in memory."""
