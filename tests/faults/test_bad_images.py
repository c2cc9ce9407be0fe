"""Files that are no images, or odd ones: training skips them, explaining reports them."""

import io
import logging
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.image_finder import find_images, list_images
from saliency_vae.data.image_folder import ImageFolderData
from saliency_vae.data.image_reader import load_rgb
from saliency_vae.data.imagenet import ImageNetData
from saliency_vae.data.mixed import MixedData, Task
from saliency_vae.data.preprocessing import Preprocessing
from saliency_vae.evaluate import evaluate
from saliency_vae.evaluation.images import evaluation_images
from saliency_vae.explain import explain
from saliency_vae.inference.outputs import Outputs
from tests.conftest import make_trainer
from tests.faults.made import make_explainer
from tests.helpers.numbered_images import Recorder

SQUARE = Preprocessing(resize_size=32, crop_size=(32, 32))


def noise(height: int = 24, width: int = 24) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def stored(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def png_bomb() -> bytes:
    """A PNG of a kilobyte whose header promises 60,000 x 60,000 pixels, ten gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def postscript() -> bytes:
    """A file that Pillow would hand to Ghostscript, another program, whatever its extension."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"


BROKEN: dict[str, Callable[[], bytes]] = {
    "truncated.jpg": lambda: stored(noise(), "JPEG")[:400],
    "truncated.png": lambda: stored(noise(), "PNG")[:900],
    "zero_byte.jpg": lambda: b"",
    "text.jpg": lambda: b"not an image",
    "web_page.png": lambda: b"<!DOCTYPE html><html><script>alert(1)</script></html>",
    "archive.png": lambda: b"PK\x03\x04" + bytes(60),
    "bomb.png": png_bomb,
    "postscript.png": postscript,
    "thin.png": lambda: stored(Image.new("L", (300_000, 1)), "PNG"),  # a gigabyte once resized
}
WHOLE: dict[str, Callable[[], bytes]] = {
    "png_called_jpg.jpg": lambda: stored(noise(), "PNG"),
    "gif_called_png.png": lambda: stored(noise(), "GIF"),
    "cmyk.jpg": lambda: stored(noise().convert("CMYK"), "JPEG"),
    "sixteen_bit.png": lambda: stored(Image.fromarray(np.full((24, 24), 30_000, np.uint16)), "PNG"),
    "one_pixel.png": lambda: stored(noise(1, 1), "PNG"),
    "line.png": lambda: stored(Image.new("L", (20_000, 1)), "PNG"),
    "panorama.png": lambda: stored(Image.new("RGB", (20_000, 300)), "PNG"),
    "animated.gif": lambda: stored(
        Image.new("RGB", (24, 24), "red"), "GIF", save_all=True, append_images=[noise()]
    ),
    "animated.webp": lambda: stored(
        Image.new("RGB", (24, 24), "red"),
        "WEBP",
        save_all=True,
        append_images=[noise()],
        lossless=True,
    ),
    "two_pages.tif": lambda: stored(
        Image.new("RGB", (24, 24), "red"), "TIFF", save_all=True, append_images=[noise()]
    ),
}


def write(directory: Path, files: dict[str, Callable[[], bytes]]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, make in files.items():
        (directory / name).write_bytes(make())
    return directory


def numbered(directory: Path, number: int, *, broken: tuple[int, ...] = ()) -> Path:
    """Images of one colour each, its first channel the image's number."""
    directory.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        path = directory / f"{i:02}.png"
        Image.new("RGB", (40, 40), (i, 9, 9)).save(path)
        if i in broken:
            path.write_bytes(path.read_bytes()[:60])
    return directory


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_an_oserror_or_too_large(name: str, tmp_path: Path) -> None:
    file = write(tmp_path, {name: BROKEN[name]}) / name
    with pytest.raises((OSError, ValueError), match=r"Expected an image"):
        SQUARE(load_rgb(file))


@pytest.mark.parametrize("name", WHOLE)
def test_an_odd_image_is_read(name: str, tmp_path: Path) -> None:
    file = write(tmp_path, {name: WHOLE[name]}) / name
    pixels = SQUARE(load_rgb(file))
    assert pixels.shape == (3, 32, 32)
    if name.startswith(("animated", "two")):  # the first image of those
        assert (pixels[0] > 250).all()
        assert (pixels[1:] < 5).all()
    if name == "sixteen_bit.png":  # scaled, not clipped to white
        assert set(pixels.flatten().tolist()) == {117}


def test_a_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a pixel is decoded, even where a program has lifted Pillow's own limit."""
    (tmp_path / "bomb.png").write_bytes(png_bomb())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(OSError, match="60000 x 60000 pixels, more than"):
        load_rgb(tmp_path / "bomb.png")


def test_no_other_program_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(postscript())
    with Image.open(tmp_path / "a.jpg") as image:  # the test is void if it is no EPS for Pillow
        assert image.format == "EPS"
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("run"))
    with pytest.raises(OSError, match="cannot identify"):
        load_rgb(tmp_path / "a.jpg")


def unreadable(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Take away the permission to read a file; of root too, whom the file's mode does not bind."""
    file.chmod(0)
    opened = io.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str | os.PathLike) and Path(path) == file:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", refusing)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = numbered(tmp_path, 2) / "00.png"
    assert load_rgb(file).size == (40, 40)
    unreadable(monkeypatch, file)
    with pytest.raises(OSError, match="Permission denied"):
        load_rgb(file)
    files = ImageFiles(list_images(tmp_path), SQUARE, max_broken=1)
    assert int(files[0]["index"]) == 1


def test_a_directory_without_permission_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered(tmp_path / "open", 2)
    numbered(tmp_path / "closed", 2)
    listed = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError, match="closed"):
        list_images(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        load_rgb(tmp_path / "pipe.jpg")


def test_links_in_a_circle_give_each_image_once(tmp_path: Path) -> None:
    numbered(tmp_path / "a", 2)
    for name in ("self", "again"):
        (tmp_path / "a" / name).symlink_to(tmp_path / "a")
    (tmp_path / "other").symlink_to(tmp_path / "a")
    assert [path.name for path in list_images(tmp_path)] == ["00.png", "01.png"]


@pytest.mark.parametrize("content", ["empty", "empty class folders", "text files"])
def test_no_image_at_all(content: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for part in ("train", "val"):
        (root / part).mkdir(parents=True)
        if content != "empty":
            (root / part / "class").mkdir()
        if content == "text files":
            (root / part / "class/notes.txt").write_text("no image")
    for read in (
        lambda: ImageFolderData(str(root)),
        lambda: ImageNetData(str(root)),
        lambda: find_images(root),
    ):
        with pytest.raises(ValueError, match=rf"Expected image files \(.*\) below {root}"):
            read()


def test_an_empty_class_folder_beside_others_is_no_matter(tmp_path: Path) -> None:
    for part in ("train", "val"):
        numbered(tmp_path / part / "n01", 3)
        (tmp_path / part / "n02").mkdir()
    data = ImageNetData(str(tmp_path))
    data.setup("fit")
    assert len(data.train_set) == len(data.val_set) == 3


def trained(
    root: Path, *, as_task: bool = False, **arguments: Any
) -> tuple[list[int], ImageNetData]:
    """Train for an epoch: which images were seen, in order."""
    data = ImageNetData(str(root), **{"batch_size": 4, "num_workers": 0, **arguments})
    data.preprocessing = SQUARE
    module = Recorder()
    mixed = MixedData([Task("only", data, 1.0)], data.batch_size, data.num_workers)
    trainer = make_trainer(root.parent / "run", max_epochs=1)
    trainer.fit(module, datamodule=mixed if as_task else data)
    return module.seen[0], data


def test_training_skips_counts_and_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same images in the same order, whatever the number of workers."""
    caplog.set_level(logging.WARNING, "saliency_vae")
    root = tmp_path / "root"
    numbered(root / "train/a", 12, broken=(2, 3, 11))
    numbered(root / "val/a", 4, broken=(0,))
    runs = []
    for workers in (0, 1, 2):
        caplog.clear()
        seen, _ = trained(root, num_workers=workers)
        runs.append((seen, caplog.messages))
    assert runs[1:] == runs[:1] * 2
    seen, messages = runs[0]
    assert sorted(seen) == [0, 0, 1, 4, 4, 4, 5, 6, 7, 8, 9, 10]  # 2, 3 -> 4; 11 -> 0
    *at_once, summary = messages
    assert len(at_once) == 4
    for message in messages:
        assert "\n" not in message
    assert summary.startswith("4 image files could not be read")
    for name in ("train/a/02.png", "train/a/03.png", "train/a/11.png", "val/a/00.png"):
        assert sum(f"{root}/{name}' (" in message for message in at_once) == 1, name
        assert f"{root}/{name}' (" in summary


def test_every_broken_kind_is_skipped(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(numbered(root / "train/a", 3), BROKEN)
    write(root / "val/a", WHOLE)
    seen, data = trained(root, batch_size=3)
    assert set(seen) <= {0, 1, 2}
    assert {path.name for path in data.broken} == set(BROKEN)


@pytest.mark.parametrize(("workers", "as_task"), [(0, False), (2, False), (0, True)])
def test_too_many_broken_files_stop_the_training(
    workers: int, as_task: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    numbered(root / "train/a", 12, broken=(1, 4, 7))
    numbered(root / "val/a", 4)
    with pytest.raises(ValueError, match=r"max_broken_files=2 .* Found 3: ") as stopped:
        trained(root, as_task=as_task, num_workers=workers, max_broken_files=2)
    for name in ("01.png", "04.png", "07.png"):
        assert f"{root}/train/a/{name}' (" in str(stopped.value)
    caplog.set_level(logging.WARNING, "saliency_vae")
    assert trained(root, as_task=as_task, num_workers=0, max_broken_files=3)[1].broken
    assert caplog.messages[-1].startswith("3 image files could not be read")


def test_nothing_but_broken_files_ends(tmp_path: Path) -> None:
    numbered(tmp_path, 3, broken=(0, 1, 2))
    files = ImageFiles(list_images(tmp_path), SQUARE, max_broken=100)
    with pytest.raises(ValueError, match=r"and one that can. Found 3: .*01.png.*02.png.*00.png"):
        files[1]


def test_a_long_row_of_broken_files_is_not_read_to_its_end(tmp_path: Path) -> None:
    files = ImageFiles([tmp_path / f"{i:02}.png" for i in range(40)], SQUARE, max_broken=14)
    with pytest.raises(ValueError, match=r"Found 15: .* and 5 more") as stopped:
        files[30]
    assert "30.png" in str(stopped.value)  # the first of them
    assert "04.png" not in str(stopped.value)  # the last, beyond those that are named


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_explainer(tmp_path_factory.mktemp("explainer"))


@pytest.fixture
def small_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_vae.visualization.panel.TILE", 32)


@pytest.mark.usefixtures("small_panels")
def test_explaining_reports_each_broken_kind_and_explains_the_rest(
    explainer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    images = write(write(tmp_path / "images", BROKEN), WHOLE)
    closed = numbered(images, 1) / "00.png"
    unreadable(monkeypatch, closed)
    arguments = [f"explainer={explainer}", f"images={images}", f"output_dir={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["explain.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        explain()
    assert ended.value.code == 1
    printed = capfd.readouterr().out.splitlines()
    assert printed[0] == f"{len(WHOLE)} of {len(BROKEN) + len(WHOLE) + 1} images explained."
    reported = (tmp_path / "out/broken.txt").read_text().splitlines()
    assert {line.partition(": ")[0] for line in reported} == {*BROKEN, "00.png"}
    assert [line.strip() for line in printed[2:-1]] == reported
    outputs = Outputs(tmp_path / "out")
    assert all(outputs.done(name, outputs.store.index()) for name in WHOLE)


def test_evaluation_leaves_broken_files_out_and_says_so(tmp_path: Path) -> None:
    """An image in the place of a broken one would count twice, with the mask of another image."""
    root = numbered(tmp_path / "val/a", 6, broken=(1, 4)).parents[1]
    numbered(root / "train/a", 1)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0)).tolist()
    whole = [number for number in order if number not in (1, 4)]
    before = sum(number in (1, 4) for number in order[: order.index(whole[1])])
    for limit, numbers, broken in ((None, whole, 2), (2, whole[:2], before)):
        data = ImageNetData(str(root), num_workers=0)
        found, left_out = evaluation_images(data, SQUARE, limit)
        size = len(found)  # type: ignore[arg-type]
        assert [int(found[i]["image"][0, 0, 0]) for i in range(size)] == numbers
        assert len(left_out) == broken
        assert all("cannot be read" in line for line in left_out)
    with pytest.raises(ValueError, match=r"max_broken_files=1"):
        evaluation_images(ImageNetData(str(root), max_broken_files=1), SQUARE, None)


def test_an_error_in_a_worker_is_one_line(
    explainer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers send their whole traceback, of which the last line says what was wrong."""
    root = numbered(tmp_path / "val/a", 4, broken=(0, 1, 2, 3)).parents[1]
    numbered(root / "train/a", 1)
    given = [f"explainer={explainer}", "data=imagenet", f"data.root={root}", "num_workers=1"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *given, f"hydra.run.dir={tmp_path}/run"])
    with pytest.raises(SystemExit) as ended:
        evaluate()
    assert str(ended.value.code).startswith("error: Expected at most data.max_broken_files=100 ")
    assert "Traceback" not in str(ended.value.code)
