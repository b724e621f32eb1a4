"""When a stack may be disrupted: windows, freezes and zones."""
