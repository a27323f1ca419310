"""Starts one program on a leash: it ends when the thread that started it does, however that ends.

Run as `python -I -S leash.py PARENT_PID DEATH_SIGNAL USER -- COMMAND...`, with the standard library only. A program of
its own, because code between fork and exec isn't safe in a process with threads, and because the kernel forgets a
parent-death signal when the user changes: so first the user, then the signal, then the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """PARENT_PID is who must be alive, USER is "uid:gid" or "-"; the command replaces this process."""
    parent, death_signal, user, _, *command = arguments
    restore_signals()
    if user != "-":
        become(*map(int, user.split(":")))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("leash: the parent is gone already")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"leash: can't run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


def restore_signals() -> None:
    """Undo what was inherited: a shell's `&` leaves SIGINT ignored, and exec keeps that."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def become(user_id: int, group_id: int) -> None:
    os.setgroups([])
    os.setgid(group_id)
    os.setuid(user_id)


if __name__ == "__main__":
    main(sys.argv[1:])
