"""How the main process of a worker tells its pool children to give up what they wait for: a pipe that becomes readable
for all of them, and stays so."""

import os
import select


class Interrupt:
    """Created before the pool is forked, so that all its children share it. Programs that they start do not."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        """For `select`: readable once it is set."""
        return self._read

    @property
    def is_set(self) -> bool:
        """The node shuts down."""
        return bool(select.select([self], [], [], 0)[0])

    def set(self) -> None:
        """Have every wait for a child process end with `ChildInterrupted`."""
        os.write(self._write, b"!")


INTERRUPT = Interrupt()
