"""What a failed Spark job says: pages of stack traces, and one line in them that tells why."""


def cause_line(text: str) -> str:
    """The line of a Spark failure that says why: the Python exception of the task, if there is one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    of_ours = [line for line in lines if line.startswith("sunspark.") and ": " in line]
    return (of_ours or [line for line in lines if "Error: " in line] or lines or ["no reason was given"])[0]
