"""Fixtures for tests of several folders.

A Progress that remembers; an index of rows that a test makes up; a few landmarks to train and to test with; ONNX files
whose output has a closed form; ML programs written with coremltools' own builder, so that tests of Core ML files have
an oracle for their bytes; a web server on this machine that misbehaves on request, in place of the hosts that publish
files; a lively student and photographs.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn

from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import write_synthetic
from aml_edge.index import TeacherIndex, encode_ids, open_index
from aml_edge.index.record import IndexRecord
from aml_edge.native_output import output_discarded
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import ProgressTask
from aml_edge.space import EmbeddingSpace

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "immunohistochemistry")
PHOTOGRAPH_SIDE_PX = 64
DIMENSION = 64
WHITENED = 48

Images = list[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.float32]


class RecordingProgress:
    """Remembers what was announced and how far it went.

    Args:
        announced: (description, total) of each task, in order.
        done: steps of all tasks together.
    """

    def __init__(self) -> None:
        self.announced: list[tuple[str, int]] = []
        self.done = 0

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        """Yields itself."""
        self.announced.append((description, total))
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        """Counts."""
        self.done += steps

    def say(self, line: str) -> None:
        """Fails: none of the work that it watches has anything to say."""
        raise AssertionError(line)


@pytest.fixture
def progress() -> RecordingProgress:
    """A Progress to which nothing has been announced yet."""
    return RecordingProgress()


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., TeacherIndex]:
    """Returns a function that writes an index of unit rows, and opens it."""

    def write(
        folder: Path, rows: npt.NDArray[np.floating], *, teacher: str = "teacher", hashed: bool = True
    ) -> TeacherIndex:
        """Writes it.

        Args:
            folder: of the index.
            rows: (N, D) float32 or float16.
            teacher: name of its space's.
            hashed: whether it says which bytes its embeddings have, as older ones do not.
        """
        folder.mkdir()
        ids = encode_ids([f"{row}.jpg" for row in range(len(rows))])
        (folder / "ids.txt").write_bytes(ids)
        np.save(folder / "embeddings.npy", rows)
        embeddings = hashlib.sha256((folder / "embeddings.npy").read_bytes()).hexdigest()
        record = IndexRecord(
            space=EmbeddingSpace(teacher, "a" * 64, rows.shape[1]),
            preprocessing=Preprocessing(64),
            count=len(rows),
            ids_sha256=hashlib.sha256(ids).hexdigest(),
            embeddings_sha256=embeddings if hashed else None,
            dtype="float32" if rows.dtype == np.float32 else "float16",
        )
        (folder / "index.json").write_text(record.dumps())
        return open_index(folder)

    return write


@pytest.fixture(scope="session")
def few_landmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic data set of four landmarks to learn, three to judge by, two to test with; no test may change it."""
    root = tmp_path_factory.mktemp("landmarks")
    spec = SyntheticSpec(
        image_side_px=64,
        landmarks_train=4,
        landmarks_val=3,
        views_train=2,
        landmarks_test=2,
        easy=1,
        hard=1,
        junk=0,
        distractors=2,
    )
    write_synthetic(root, spec, workers=1)
    return root


@pytest.fixture(scope="session")
def write_channel_means() -> Callable[..., None]:
    """Returns a function that writes an ONNX file which gives channel means plus one, L2-normalised."""
    from onnx import TensorProto, helper

    def write(path: Path, side: int, *, offset: float = 1.0) -> None:
        """Writes it.

        Args:
            path: where; ends in .onnx.
            side: of the (1, side, side, 3) uint8 pixels that it takes.
            offset: what is added to the means; NaN or infinity leads to embeddings that are not finite.
        """
        nodes = [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
            helper.make_node("Add", ["means", "offset"], ["rows"]),
            helper.make_node("LpNormalization", ["rows"], ["embedding"], axis=1, p=2),
        ]
        graph = helper.make_graph(
            nodes,
            "channel means",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, side, side, 3])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 3])],
            initializer=[
                helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
                helper.make_tensor("offset", TensorProto.FLOAT, [], [offset]),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(model.SerializeToString())

    return write


@pytest.fixture(scope="session")
def coremltools() -> Any:
    """The package, imported without what it says on the way; the test is skipped where it is not installed."""
    if find_spec("coremltools") is None:
        pytest.skip("the extra 'coreml' is not installed")
    with output_discarded():
        import coremltools
        import coremltools.converters.mil.mil
    return coremltools


MilPackage = Callable[..., Path]


@pytest.fixture(scope="session")
def mil_package(tmp_path_factory: pytest.TempPathFactory, coremltools: Any) -> MilPackage:
    """Returns a function that saves a program as a new package, and returns the package's path."""
    mil = coremltools.converters.mil.mil

    def save(build: Callable[..., Any], inputs: Mapping[str, tuple[int, ...]], *, colours: str | None = None) -> Path:
        """Saves a program exactly as it is written.

        Args:
            build: takes the builder and a variable for each input; returns the result or a tuple of them.
            inputs: name → shape, float32.
            colours: ``"RGB"`` or ``"BGR"``, where the inputs are images.
        """
        package = tmp_path_factory.mktemp("mil") / "program.mlpackage"
        program = mil.Program()
        placeholders = {name: mil.Builder.placeholder(shape=shape) for name, shape in inputs.items()}
        images = []
        if colours is not None:
            layout = getattr(coremltools.colorlayout, colours)
            images = [
                coremltools.ImageType(name=name, shape=shape, color_layout=layout) for name, shape in inputs.items()
            ]
        with output_discarded():
            with mil.Function(placeholders, opset_version=coremltools.target.iOS17) as function:
                results = build(mil.Builder, *function.inputs.values())
                function.set_outputs(list(results) if isinstance(results, tuple | list) else [results])
            program.add_function("main", function)
            coremltools.convert(
                program,
                inputs=images or None,
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target.iOS17,
                compute_precision=coremltools.precision.FLOAT32,
                pass_pipeline=coremltools.PassPipeline.EMPTY,
                skip_model_load=True,
                package_dir=str(package),
            )
        return package

    return save


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong; what is left alone is as it should be.

    Args:
        status: answered in place of the file.
        cut_after: bytes of the answer after which the connection is cut.
        length: what Content-Length says; ``"absent"`` leaves it out.
        ignores_range: the whole file comes, whatever was asked for.
        redirect: where the answer sends on to.
        content: another file, under another ETag.
        chunked: the answer comes in chunks, without a length.
        page: the answer calls itself a web page.
        headers: more of them, or others; None leaves one out.
        pause_s: between the two halves of the answer.
        meanwhile: called before anything is answered.
    """

    status: int | None = None
    cut_after: int | None = None
    length: int | str | None = None
    ignores_range: bool = False
    redirect: str | None = None
    content: bytes | None = None
    chunked: bool = False
    page: bool = False
    headers: Mapping[str, str | None] = field(default_factory=dict)
    pause_s: float = 0.0
    meanwhile: Callable[[], object] = lambda: None


@dataclass
class FaultyServer:
    """A web server on this machine.

    Args:
        url: of its root, without a slash at the end.
        files: content by path, e.g. ``"/a.bin"``.
        faults: of the next answers to a path, first one first; after them all is well.
        requests: (path, headers) of what was asked, in order.
        heeds_if_range: whether a range of a file that has changed is refused, as it should be.
        closing: set when the server ends, which ends all pauses.
        fault: the class of `faults`, for tests: nobody imports a conftest.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    heeds_if_range: bool = True
    closing: threading.Event = field(default_factory=threading.Event)
    fault: ClassVar[type[Fault]] = Fault

    def ranges(self, path: str) -> list[str | None]:
        """Returns the range that each request for a path asked for."""
        return [headers.get("Range") for asked, headers in self.requests if asked == path]


@pytest.fixture
def faulty_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server that keeps to RFC 9110 (ranges, If-Range with ETag and Last-Modified) but for the faults it is told."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _FaultyHandler)
    server.daemon_threads = False  # so that closing waits for the last answer
    served = FaultyServer(f"http://127.0.0.1:{server.server_port}")
    _FaultyHandler.served = served
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


class _FaultyHandler(BaseHTTPRequestHandler):
    served: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        """Answers with a file, or with the fault that is next."""
        self.close_connection = True
        self.served.requests.append((self.path, dict(self.headers)))
        waiting = self.served.faults.get(self.path, [])
        fault = waiting.pop(0) if waiting else Fault()
        fault.meanwhile()
        content = self.served.files.get(self.path) if fault.content is None else fault.content
        if fault.redirect is not None:
            self._say(302, {"Location": fault.redirect, "Content-Length": "0"})
        elif fault.status is not None or content is None:
            self._say(fault.status or 404, {"Content-Length": "0"})
        else:
            self._send(content, fault)

    def _send(self, content: bytes, fault: Fault) -> None:
        headers: dict[str, str | None] = {
            "ETag": f'"{hash(content)}"',
            "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT",
            "Content-Type": "text/html" if fault.page else "application/x-tar",
            **fault.headers,
        }
        status, start = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        unchanged = self.headers.get("If-Range") in (None, headers["ETag"], headers["Last-Modified"])
        unchanged = unchanged or not self.served.heeds_if_range
        if asked and unchanged and not fault.ignores_range:
            status, start = 206, int(asked[1])
            if start >= len(content):
                self._say(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                return
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", **headers}
        body = content[start:]
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif fault.length != "absent":
            headers["Content-Length"] = str(len(body) if fault.length is None else fault.length)
        self._say(status, headers)
        body = body[: fault.cut_after]
        half = len(body) // 2
        for piece in (body[:half], body[half:]):
            try:
                self.wfile.write(piece)
            except OSError:  # whoever asked has gone
                return
            self.served.closing.wait(fault.pause_s)

    def _say(self, status: int, headers: Mapping[str, str | None]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty bucket of a store on this machine that speaks S3; the session's environment names it."""
    for package in ("moto", "flask", "s3fs"):
        pytest.importorskip(package)
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NO_PROXY", "127.0.0.1")
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_CONFIG_FILE", str(tmp_path_factory.mktemp("no-configuration") / "none"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "toy")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("toy")
        yield "s3://toy"
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.fixture(scope="session")
def photographs() -> Images:
    """Real photographs of (64, 64, 3) uint8."""
    images = (Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in PHOTOGRAPHS)
    return [
        np.array(image.resize((PHOTOGRAPH_SIDE_PX, PHOTOGRAPH_SIDE_PX), Image.Resampling.BILINEAR)) for image in images
    ]


@pytest.fixture(scope="session")
def checkpoint() -> StudentCheckpoint:
    """EfficientNet-Lite0 with random weights and batch normalisations that are no identities.

    Statistics taken from a few images would make a random network magnify rounding; mild random ones do not.
    """
    torch.manual_seed(0)
    student = Student(StudentSpec("tf_efficientnet_lite0", DIMENSION)).eval()
    for norm in (module for module in student.modules() if isinstance(module, nn.BatchNorm2d)):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.normal_(0.0, 0.05)
        norm.running_var.uniform_(0.8, 1.2)
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.normal_(norm.bias, 0.0, 0.05)
    space = EmbeddingSpace("toy teacher", "a" * 64, DIMENSION)
    return StudentCheckpoint(student, "toy", space, Preprocessing(), trained=True)


@pytest.fixture(scope="session")
def student_rows(checkpoint: StudentCheckpoint, photographs: Images) -> Rows:
    """What the student itself says of the photographs, (N, 64)."""
    normalise = Normalise(checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    with torch.inference_mode():
        rows = [checkpoint.student(normalise(torch.from_numpy(image)[None])) for image in photographs]
    embeddings: Rows = torch.cat(rows).numpy()
    return embeddings


@pytest.fixture(scope="session")
def whitening(student_rows: Rows) -> Whitening:
    """A whitening with entries far from one, (48, 64)."""
    generator = torch.Generator().manual_seed(1)
    projection = 40.0 * torch.randn(WHITENED, DIMENSION, generator=generator)
    return Whitening(torch.from_numpy(student_rows.mean(axis=0)), projection)


@pytest.fixture(scope="session")
def whitened_space(checkpoint: StudentCheckpoint, whitening: Whitening) -> EmbeddingSpace:
    return replace(checkpoint.space, dimension=WHITENED, whitening_sha256=whitening.sha256)


@pytest.fixture(scope="session")
def whitened_rows(student_rows: Rows, whitening: Whitening) -> npt.NDArray[np.float64]:
    """The student's rows, whitened in float64 with numpy."""
    mean, projection = whitening.mean.numpy().astype(np.float64), whitening.projection.numpy().astype(np.float64)
    rows = (student_rows.astype(np.float64) - mean) @ projection.T
    normalised: npt.NDArray[np.float64] = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)
    return normalised
