"""Whether a wave may run: approvals, criteria, the emergency lane, one decision of all of them, and its replay."""
