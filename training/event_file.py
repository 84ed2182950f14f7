"""`EventFile`: scalars as TensorBoard reads them.

Written at once and in this thread. tensorboardX's own `SummaryWriter` queues what it is given, and a process that is
killed loses the queue, also what lies before its last state.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

EVENT_FILES = "events.out.tfevents.*"


class EventFile:
    """An open event file.

    Args:
        folder: that TensorBoard is given; made where it is missing.
        after_step: scalars of later steps in the folder's older files are void.
    """

    def __init__(self, folder: Path, *, after_step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        # Names begin with the second: files of one second are told apart, and read in order, by their number.
        number = sum(1 for _ in folder.glob(EVENT_FILES))
        self._writer: Any = EventsWriter(str(folder / "events"), f".{number:06}")
        begin = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.write_event(self._event(wall_time=time.time(), step=after_step + 1, session_log=begin))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes one value, as float32."""
        summary = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def sync(self) -> None:
        """Puts what was written so far through to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
