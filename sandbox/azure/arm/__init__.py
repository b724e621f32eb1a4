"""The resource manager: rules, completions, operations, and what a resource does to hosts."""
