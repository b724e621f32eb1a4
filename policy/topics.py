"""The topics of the pack, one policy each, by what a reader looks for."""

TOPICS = {
    "settings": "A stack's declared settings keep within the standard.",
    "permission": "A wave may start only when the calendar, its proof and its approvals allow it.",
    "deadlines": "Fixes come before the standard's due times.",
    "tags": "What is patched names its stack and can be found.",
    "scale-sets": "Scale sets watch health, roll in batches and go back by themselves.",
    "machines": "Machines are entered by key, made from one image, patched only as decided, and can go back.",
    "maintenance": "Azure's maintenance keeps within the standard's windows and selects only its own stack.",
    "network": "Traffic goes only where it is answered.",
    "backups": "Backups are what Azure takes, and can be had back.",
    "monitoring": "Records are kept and alerts reach somebody.",
    "events": "Maintenance events arrive.",
    "access": "Nobody gets more rights than the task needs.",
}
TOGETHER = "together"
ADVICE = "advice"
