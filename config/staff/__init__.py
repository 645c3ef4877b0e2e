"""The sign-in of staff: second step, lock-out, idle sessions, roles."""
