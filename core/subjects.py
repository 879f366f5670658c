"""Names of subjects, and of a group of them whose responses to the same stimuli are read as one.

A group decoder reads the voxels of several people side by side. To stores, models and reports the group is one more
subject, whose name holds those of its members: ``group:sub-01+sub-02``. So whatever shows a subject's name shows that
it is a group's.
"""

from collections.abc import Sequence

from core.errors import ConfigError

PREFIX, JOINT = "group:", "+"


def group_of(members: Sequence[str]) -> str:
    """Return the name of a group.

    Raises `ConfigError`: fewer than two members, or a name that cannot be told apart in the group's.
    """
    if len(members) < 2:
        raise ConfigError(
            f"a group decoder needs at least 2 subjects, found {len(members)} ({', '.join(members) or 'none'}); name "
            "more in source.subjects, or set the route's pooled to false"
        )
    for name in members:
        if JOINT in name or name.startswith(PREFIX):
            raise ConfigError(
                f"{name}: a subject of a group decoder must not have '{JOINT}' in its name or begin with '{PREFIX}'; "
                "rename it"
            )
    return PREFIX + JOINT.join(members)


def is_group(subject: str) -> bool:
    """Return whether a name is that of a group."""
    return subject.startswith(PREFIX)


def members_of(subject: str) -> list[str]:
    """Return the subjects of a group, or the single subject that is no group."""
    return subject.removeprefix(PREFIX).split(JOINT) if is_group(subject) else [subject]


def subject_label(subject: str) -> str:
    """Return a subject's name in words: of a group "group decoder of 2 subjects (sub-01, sub-02)"."""
    members = members_of(subject)
    return f"group decoder of {len(members)} subjects ({', '.join(members)})" if is_group(subject) else subject
