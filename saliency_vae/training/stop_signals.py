"""Signals that stop a run: SIGTERM, and Ctrl-C once or twice."""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

from lightning.pytorch.utilities.exceptions import SIGTERMException

_SAID = "\nCtrl-C: this step is finished and saved. A second Ctrl-C stops the run at once.\n"


class Stopped(SIGTERMException):
    """Ends a run that was stopped by a signal, once its step is saved.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class StopSignals:
    """Records SIGTERM and the first Ctrl-C of a process; a second Ctrl-C ends the process.

    Attributes:
        received: Number of the signal that was received; None if there was none.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self) -> None:
        """Replace Lightning's handlers; at the end Lightning restores the original ones.

        Its SIGTERM handler communicates, and hangs if another process does so too.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        signal.signal(signal.SIGTERM, self._note)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # so the next ends even a wait in C
            if os.environ.get("LOCAL_RANK", "0") == "0":
                os.write(2, _SAID.encode())  # print may be what was interrupted

    def stop(self) -> NoReturn:
        """End the run of this process.

        Raises:
            Stopped: Always, with SIGTERM where another process of the run received the signal.
        """
        raise Stopped(self.received or signal.SIGTERM)
