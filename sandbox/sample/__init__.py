"""The sample service that the lab's own fleet runs."""
