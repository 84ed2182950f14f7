"""Event files, read back by the definition of their format: TFRecord frames around protocol buffers."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.training.event_file import EVENT_FILES, EventFile


def crc32c(content: bytes) -> int:
    """Returns the CRC of the Castagnoli polynomial, bit by bit (RFC 3720, appendix B.4)."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(content: bytes) -> int:
    """Returns what a TFRecord holds of a CRC: turned by 15 bits, plus a constant."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events_of(file: Path) -> list[Any]:
    """Returns the events of one file; what a process that was killed left of the last one is none."""
    from tensorboardX.proto import event_pb2

    content, events = file.read_bytes(), []
    while len(content) >= 12:
        head = content[:8]
        (length,) = struct.unpack("<Q", head)
        if len(content) < 16 + length:
            break
        body = content[12 : 12 + length]
        assert struct.unpack("<I", content[8:12]) == (masked(head),)
        assert struct.unpack("<I", content[12 + length : 16 + length]) == (masked(body),)
        events.append(event_pb2.Event.FromString(body))
        content = content[16 + length :]
    return events


def scalars_of(folder: Path) -> dict[str, dict[int, float]]:
    """Returns name → step → value as TensorBoard shows them: a session that starts voids what has its step or more."""
    from tensorboardX.proto import event_pb2

    shown: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob(EVENT_FILES)):
        events = events_of(file)
        assert events[0].file_version == "brain.Event:2"
        for event in events:
            if event.session_log.status == event_pb2.SessionLog.START:
                for name, values in shown.items():
                    shown[name] = {step: value for step, value in values.items() if step < event.step}
            for value in event.summary.value:
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def test_the_checksum_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4


def test_scalars_come_back(tmp_path: Path) -> None:
    board = EventFile(tmp_path / "new" / "tensorboard", after_step=0)
    for step in (1, 2):
        board.scalar("loss", 0.1 * step, step)
    board.scalar("rate", 1e-6, 2)
    board.close()
    assert scalars_of(tmp_path / "new" / "tensorboard") == {
        "loss": {1: np.float32(0.1), 2: np.float32(0.2)},
        "rate": {2: np.float32(1e-6)},
    }


def test_what_is_gone_on_from_voids_later_steps(tmp_path: Path) -> None:
    """Also within the same second, in which names of files begin alike."""
    for after, last in ((0, 5), (3, 4), *[(3, 3)] * 10, (3, 6), (6, 6)):
        board = EventFile(tmp_path, after_step=after)
        for step in range(after + 1, last + 1):
            board.scalar("loss", 10 * after + step, step)
        board.close()
    assert scalars_of(tmp_path) == {"loss": {1: 1, 2: 2, 3: 3, 4: 34, 5: 35, 6: 36}}


def test_a_process_that_is_killed_keeps_what_was_put_through(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from aml_edge.training.event_file import EventFile\n"
        "board = EventFile(Path(sys.argv[1]), after_step=0)\n"
        "for step in range(1, 101):\n"
        "    board.scalar('loss', step, step)\n"
        "board.sync()\n"
        "board.scalar('loss', 101, 101)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert list(scalars_of(tmp_path)["loss"])[:100] == list(range(1, 101))


@pytest.mark.parametrize("cut", [1, 13, 30])
def test_half_an_event_is_none(tmp_path: Path, cut: int) -> None:
    board = EventFile(tmp_path, after_step=0)
    for step in (1, 2):
        board.scalar("loss", step, step)
    board.close()
    (file,) = tmp_path.glob(EVENT_FILES)
    file.write_bytes(file.read_bytes()[:-cut])
    board = EventFile(tmp_path, after_step=1)
    board.scalar("loss", 7, 2)
    board.close()
    assert scalars_of(tmp_path) == {"loss": {1: 1, 2: 7}}
