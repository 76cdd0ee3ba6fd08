"""What can be a task's id."""

from __future__ import annotations

from typing import TypeGuard

from hailuo_async.errors import JobError

#: Task ids stand in paths and logs; a longer text is not a task id.
MAX_TASK_ID_CHARACTERS = 256


def is_task_id(value: object) -> TypeGuard[str]:
    """Whether ``value`` could be a task's id: a short, printable ``str`` without spaces.

    ``.`` and ``..`` are none: behind a path they name another resource.
    """
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_TASK_ID_CHARACTERS
        and value.isprintable()
        and " " not in value
        and value not in (".", "..")
    )


def check_task_id(value: object, field: str = "task_id") -> None:
    """Raises ``JobError`` for a value that cannot be a task's id, or that of another thing of the service's."""
    if not is_task_id(value):
        raise JobError(field=field, value=value, rule="must be a short printable str without spaces, and not . or ..")
