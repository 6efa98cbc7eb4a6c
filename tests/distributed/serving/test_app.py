"""The HTTP application, served by uvicorn without Ray: answers as `predict` gives them, and refusals."""

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import requests
import trimesh
import uvicorn
from dicom_files import write_series

from ossnet.data import write_phantom
from ossnet.distributed.serving.app import RESULT, make_app
from ossnet.distributed.serving.bearer import digest
from ossnet.distributed.serving.segmenter import Segmenter
from ossnet.errors import UserError
from ossnet.inference import Predictor, Segmentation
from ossnet.inference.batch.inputs import find_scans
from ossnet.inference.batch.runner import PredictionJob
from ossnet.inference.config import PredictConfig

TOKEN = "a-token-of-the-user"
MODALITIES = ("FLAIR", "T1w", "T1gd", "T2w")
LIMIT = 4 << 20


@dataclass(frozen=True)
class Client:
    """A program that uses the server."""

    url: str
    scratch: Path

    def post(
        self, files: Any, *, token: bytes | None = f"Bearer {TOKEN}".encode(), **query: str
    ) -> requests.Response:
        headers = {} if token is None else {"Authorization": token}
        return requests.post(f"{self.url}/segment", files=files, params=query, headers=headers, timeout=60)

    def refusal(self, files: Any, status: int = 422, **query: str) -> str:
        """The line of a request that is refused; nothing of it is left."""
        answer = self.post(files, **query)
        assert answer.status_code == status, answer.text
        assert not list(self.scratch.iterdir())
        detail: str = answer.json()["detail"]
        assert len(detail.splitlines()) == 1
        return detail


@pytest.fixture(scope="module")
def client(phantom_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    scratch = tmp_path_factory.mktemp("scratch")
    job = PredictionJob((phantom_checkpoint,), scratch, PredictConfig(device="cpu"))
    segmenter = Segmenter(job, scratch, limit=LIMIT)
    app = make_app(segmenter, token_digest=digest(TOKEN), max_upload=LIMIT)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield Client(f"http://127.0.0.1:{listener.getsockname()[1]}", scratch)
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4-D scan, stored along axes of its own."""
    source = write_phantom(tmp_path_factory.mktemp("scan") / "source", cases=1, shape=(28, 26, 22), seed=5)
    (image,) = (source / "imagesTr").iterdir()
    return image


@pytest.fixture(scope="module")
def parts(scan: Path) -> dict[str, Path]:
    """The same scan, a file a modality."""
    image, paths = nibabel.load(scan), {}
    for index, name in enumerate(MODALITIES):
        paths[name] = scan.with_name(f"patient_{name}.nii.gz")
        nibabel.save(image.slicer[..., index], paths[name])
    return paths


@pytest.fixture(scope="module")
def predicted(phantom_checkpoint: Path, scan: Path) -> Segmentation:
    return Predictor.from_checkpoint(phantom_checkpoint, device="cpu")(scan)


def sent(files: dict[str, Path]) -> dict[str, tuple[str, bytes]]:
    return {field: (path.name, path.read_bytes()) for field, path in files.items()}


def as_image(content: bytes) -> Any:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


def test_health_says_what_is_served_without_a_token(client: Client) -> None:
    answer = requests.get(f"{client.url}/health", timeout=10).json()
    assert answer["network"] == "oss-net-a"
    assert answer["modalities"] == list(MODALITIES)
    assert answer["classes"] == ["edema", "non-enhancing", "enhancing"]
    assert answer["version"]


@pytest.mark.parametrize("together", [True, False])
def test_the_labels_are_those_of_predict(
    client: Client, scan: Path, parts: dict[str, Path], predicted: Segmentation, together: bool
) -> None:
    answer = client.post(sent({"image": scan} if together else parts))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/gzip"
    assert ("patient_seg.nii.gz" in answer.headers["content-disposition"]) != together
    labels = as_image(answer.content)
    assert np.array_equal(np.asarray(labels.dataobj), predicted.labels)
    assert np.array_equal(labels.affine, predicted.affine)
    assert predicted.labels.any()
    assert not list(client.scratch.iterdir())


def test_modalities_may_be_called_as_files_call_them(client: Client, parts: dict[str, Path]) -> None:
    names = dict(zip(MODALITIES, ("flair", "t1", "t1ce", "T2"), strict=True))
    files = sent({names[name]: path for name, path in reversed(parts.items())})
    assert client.post(files, **{"as": "json"}).status_code == 200


def test_numbers_are_the_answer_or_in_its_header(client: Client, scan: Path, predicted: Segmentation) -> None:
    answer = client.post(sent({"image": scan}), **{"as": "json"})
    found = answer.json()
    assert found["volumes_ml"] == pytest.approx(dict(predicted.volumes_ml))
    assert found["shape"] == list(predicted.labels.shape)
    assert found["spacing_mm"] == pytest.approx([1.0, 1.0, 1.0])
    assert json.loads(answer.headers[RESULT]) == found


@pytest.mark.parametrize("kind", ["stl", "ply", "obj"])
def test_meshes_hold_the_volume_of_their_class(
    client: Client, scan: Path, predicted: Segmentation, kind: str
) -> None:
    name = max(predicted.volumes_ml, key=lambda each: predicted.volumes_ml[each])
    answer = client.post(sent({"image": scan}), **{"as": "mesh", "class": name, "format": kind})
    assert answer.status_code == 200, answer.text
    mesh = trimesh.load_mesh(BytesIO(answer.content), file_type=kind)
    assert mesh.volume / 1000 == pytest.approx(predicted.volumes_ml[name], rel=1e-3)


def test_dicom_series_are_sent_as_their_files(
    client: Client, phantom_checkpoint: Path, tmp_path: Path
) -> None:
    rng, files = np.random.default_rng(0), list[tuple[str, tuple[str, bytes]]]()
    for number, name in enumerate(MODALITIES, 1):
        voxels = rng.integers(0, 500, (20, 18, 16))
        series = write_series(tmp_path / name, voxels, np.eye(4), description=name, number=number)
        files += [(name, ("slice", path.read_bytes())) for path in series]
    predictor = Predictor.from_checkpoint(phantom_checkpoint, device="cpu")
    expected = predictor({name: tmp_path / name for name in MODALITIES})
    assert np.array_equal(np.asarray(as_image(client.post(files).content).dataobj), expected.labels)
    assert "field T2w: expected one file" in client.refusal([("T2w", ("a", b"a")), ("T2w", ("b", b"b"))])


@pytest.mark.parametrize(
    "token", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer ö"]
)
def test_without_the_token_nothing_is_done(client: Client, scan: Path, token: str | None) -> None:
    encoded = None if token is None else token.encode("latin-1")
    answer = client.post(sent({"image": scan}), token=encoded, **{"as": "nonsense"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc", "/"])
def test_there_are_no_other_pages(client: Client, path: str) -> None:
    assert requests.get(f"{client.url}{path}", timeout=10).status_code == 404


def test_a_missing_modality_is_the_line_of_predict(
    client: Client, parts: dict[str, Path], phantom_checkpoint: Path
) -> None:
    some = {name: path for name, path in parts.items() if name != "T1gd"}
    (expected,) = find_scans(list(some.values()), Predictor.from_checkpoint(phantom_checkpoint).task)
    assert expected.error is not None
    assert "expected a file for T1gd" in expected.error
    assert client.refusal(sent(some)) == expected.error


@pytest.mark.parametrize(
    "content", [b"no image", b"\x1f\x8b no gzip", b"\0" * 600], ids=["text", "gzip", "zeros"]
)
def test_a_file_that_cannot_be_read_is_the_line_of_predict(
    client: Client, content: bytes, phantom_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "scan.nii.gz").write_bytes(content)
    with pytest.raises(UserError) as expected:
        Predictor.from_checkpoint(phantom_checkpoint, device="cpu")(tmp_path / "image" / "scan.nii.gz")
    found = client.refusal({"image": ("scan.nii.gz", content)})
    assert found == str(expected.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({}, "scan: expected a file for FLAIR, T1w, T1gd, T2w, or one for all as image, found none"),
        ({"CT": ("a.nii", b"a")}, "field CT: expected FLAIR, T1w, T1gd, T2w, or image alone"),
        ({"image": (None, "scan.nii.gz")}, "field image: expected a file, found text; write @ before"),
    ],
)
def test_what_is_wrong_with_a_form_is_said(client: Client, files: Any, line: str) -> None:
    assert client.refusal(files).startswith(line)


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ({"as": "picture"}, "as: Input should be 'labels', 'json' or 'mesh'"),
        ({"as": "mesh"}, "class: expected one of edema, non-enhancing, enhancing, found none"),
        ({"as": "mesh", "class": "edma"}, "did you mean 'edema'?"),
        ({"as": "mesh", "class": "edema", "smoothing": "-1"}, "smoothing: Input should be"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(
    client: Client, scan: Path, query: dict[str, str], line: str
) -> None:
    assert line in client.refusal(sent({"image": scan}), **query)


@pytest.mark.parametrize("stated", [True, False])
def test_an_upload_ends_at_its_limit(client: Client, stated: bool) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="scan.nii"\r\n\r\n'
    chunks = [head, *([b"\0" * (1 << 20)] * 5), b"\r\n--x--\r\n"]
    answer = requests.post(
        f"{client.url}/segment",
        data=b"".join(chunks) if stated else iter(chunks),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=x"},
        timeout=60,
    )
    assert answer.status_code == 413
    assert "upload: expected at most 0.00391 GiB" in answer.json()["detail"]


def test_a_small_file_of_many_voxels_is_refused_before_memory_is_taken(client: Client) -> None:
    image = nibabel.Nifti1Image(np.zeros((200, 200, 200), np.uint8), np.eye(4))
    bomb = gzip.compress(image.to_bytes())
    assert len(bomb) < LIMIT // 100
    assert "scan, unpacked: expected at most" in client.refusal({"image": ("scan.nii.gz", bomb)}, 413)


def test_a_header_cannot_name_a_file_of_the_server(client: Client, scan: Path) -> None:
    secret = scan.with_name("secret.raw")
    secret.write_bytes(b"\0" * 8**3)
    header = f"NDims = 3\nDimSize = 8 8 8\nElementType = MET_UCHAR\nElementDataFile = {secret}\n"
    line = client.refusal({"image": ("scan.mha", header.encode())})
    assert "image/scan.mha: expected header and voxels in one file" in line


@pytest.mark.parametrize(
    "name", ["../../scan.nii.gz", "/etc/scan.nii.gz", "C:\\scans\\a b*.nii.gz", "..", "-rf"]
)
def test_names_of_files_do_no_harm(client: Client, scan: Path, name: str) -> None:
    answer = client.post({"image": (name, scan.read_bytes())}, **{"as": "json"})
    assert answer.status_code == 200, answer.text
    assert "/" not in answer.json()["case"]
