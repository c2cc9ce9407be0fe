"""Shards: every image once, in an order of its own each epoch, and nothing that is executed."""

import multiprocessing
import os
import pickle
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.imagenet_streaming import ImageNetStreamingData
from saliency_vae.data.shards import open_split, write_split
from saliency_vae.shard import shard
from saliency_vae.training.checkpoints import RunCheckpoints
from tests.conftest import make_trainer
from tests.faults import small_run  # noqa: F401  # what the fork server imports once for all
from tests.helpers.numbered_images import SQUARE, Recorder, numbers, write_images

pytest.importorskip("litdata")

TRAIN, VAL = 24, 7  # images


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_images(tmp_path / "tree/train/n01", TRAIN)
    write_images(tmp_path / "tree/val/n01", VAL, first=TRAIN)
    return tmp_path / "tree"


@pytest.fixture
def shards(tree: Path) -> Path:
    """Five shards of training images, two of validation images."""
    for split in ("train", "val"):
        paths = sorted((tree / split).rglob("*.png"))
        write_split(paths, tree.parent / "shards" / split, shard_bytes=500, num_workers=0, seed=0)
    assert len(list((tree.parent / "shards/train").glob("*.bin"))) > 3
    return tree.parent / "shards"


def trainer_at(epoch: int, rank: int = 0, world_size: int = 1) -> Any:
    return SimpleNamespace(
        current_epoch=epoch,
        world_size=world_size,
        global_rank=rank,
        accumulate_grad_batches=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def data_of(shards: Path, trainer: Any = None, **arguments: Any) -> ImageNetStreamingData:
    data = ImageNetStreamingData(str(shards), **({"batch_size": 4, "num_workers": 0} | arguments))
    data.preprocessing = SQUARE
    data.trainer = trainer or trainer_at(0)
    data.setup("fit")
    return data


def order(shards: Path, epoch: int, **arguments: Any) -> list[int]:
    return numbers(data_of(shards, trainer_at(epoch), **arguments).train_dataloader())


def test_the_same_images_as_from_the_files(tree: Path, shards: Path) -> None:
    data = data_of(shards)
    files = ImageFiles(sorted((tree / "val").rglob("*.png")), SQUARE)
    expected = sorted(image["image"].flatten().tolist() for image in (files[i] for i in range(VAL)))
    batches = list(data.val_dataloader())
    assert [len(batch["image"]) for batch in batches] == [4, 3]
    assert {batch["image"].dtype for batch in batches} == {torch.uint8}
    assert sorted(image.flatten().tolist() for b in batches for image in b["image"]) == expected
    assert data.val_set[0]["image"].shape == (3, 16, 16)  # as the panels ask for it
    assert len(data.val_set) == VAL  # type: ignore[arg-type]


def test_the_order_is_a_function_of_seed_and_epoch(shards: Path) -> None:
    orders = [order(shards, epoch) for epoch in (0, 1, 2)]
    assert orders == [order(shards, epoch) for epoch in (0, 1, 2)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert all(sorted(one) == list(range(TRAIN)) for one in orders)
    assert order(shards, 0, seed=1) != orders[0]


def see(rank: int, rendezvous: str, shards: Path, workers: int) -> None:
    """Note the images that one of two processes sees in two epochs."""
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    trainer = trainer_at(0, rank, world_size=2)
    data = data_of(shards, trainer, num_workers=workers)
    train, val = data.train_dataloader(), data.val_dataloader()
    seen = []
    for epoch in (0, 1):
        trainer.current_epoch = epoch
        seen.append((numbers(train), numbers(val)))
    torch.save(seen, f"{rendezvous.removeprefix('file://')}.{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_share_the_images_of_an_epoch(
    shards: Path, tmp_path: Path, workers: int
) -> None:
    rendezvous = tmp_path / "rendezvous"
    context = multiprocessing.get_context("fork")  # which need not import everything again
    processes = [
        context.Process(target=see, args=(rank, f"file://{rendezvous}", shards, workers))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    ranks = [torch.load(f"{rendezvous}.{rank}") for rank in (0, 1)]
    for epoch in (0, 1):
        (first, first_val), (second, second_val) = (rank[epoch] for rank in ranks)
        assert len(first) == len(second) == TRAIN // 2
        assert sorted(first + second) == list(range(TRAIN))
        assert len(first_val) == len(second_val) == 2  # of 7, in batches of 2
        assert len({*first_val, *second_val} & set(range(TRAIN, TRAIN + VAL))) == 4
    assert ranks[0][0][0] != ranks[0][1][0]  # another order in the second epoch


class Validated(Recorder):
    """Leaves a file with the validation images of a process."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run
        self.validated: list[int] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated += (255 * batch["image"][:, 0, 0, 0]).round().int().tolist()
        self.log("val/loss", self.layer(torch.ones(1)).sum(), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        torch.save(self.validated, self.run / f"validated.{self.global_rank}")
        self.validated = []


def test_two_processes_fit_with_validation_images_that_do_not_divide(
    shards: Path, tmp_path: Path
) -> None:
    data = ImageNetStreamingData(str(shards), batch_size=4, num_workers=0)
    data.preprocessing = SQUARE
    soon = timedelta(seconds=60)  # a process that waits in vain
    make_trainer(
        tmp_path,
        [RunCheckpoints(str(tmp_path), every_n_steps=100)],
        devices=2,
        strategy=DDPStrategy(start_method="forkserver", process_group_backend="gloo", timeout=soon),
        max_epochs=2,
    ).fit(Validated(tmp_path), datamodule=data)
    first, second = (torch.load(tmp_path / f"validated.{rank}") for rank in (0, 1))
    assert len(first) == len(second) == 2
    assert len({*first, *second} & set(range(TRAIN, TRAIN + VAL))) == 4
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1


def test_too_few_validation_images_for_all_devices(shards: Path) -> None:
    data = data_of(shards, trainer_at(0, world_size=2), batch_size=16)
    with pytest.raises(ValueError, match=r"shards/val for a batch of 8 on each of 2 devices"):
        data.val_dataloader()


def test_what_does_not_divide_is_dropped_and_nothing_comes_twice(shards: Path) -> None:
    seen = order(shards, 0, batch_size=5)
    assert len(seen) == len(set(seen)) == 20


@pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")  # Lightning's own
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_consists_of_whole_steps(accumulate: int, shards: Path, tmp_path: Path) -> None:
    data = ImageNetStreamingData(str(shards), batch_size=16, num_workers=0)
    data.preprocessing = SQUARE
    module = Recorder()
    trainer = make_trainer(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(module, datamodule=data)
    assert [len(set(epoch)) for epoch in module.seen] == [16, 16]  # of 24
    assert module.seen[0] != module.seen[1]


def test_a_run_that_stopped_within_an_epoch_goes_on_there(shards: Path) -> None:
    whole = order(shards, 3)
    loader: Any = data_of(shards, trainer_at(3)).train_dataloader()
    batches = iter(loader)
    first = numbers([next(batches), next(batches)])  # type: ignore[arg-type]
    resumed: Any = data_of(shards, trainer_at(3)).train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    assert first + numbers(resumed) == whole
    assert len(first) == 8


@pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")  # Lightning's own
def test_lightning_resumes_at_an_epoch_with_the_order_of_an_uninterrupted_run(
    shards: Path, tmp_path: Path
) -> None:
    def fit(epochs: int, ckpt_path: Path | None = None) -> list[list[int]]:
        data = ImageNetStreamingData(str(shards), batch_size=4, num_workers=0)
        data.preprocessing = SQUARE
        module = Recorder()
        checkpoint = ModelCheckpoint(tmp_path, filename=f"{epochs}", save_top_k=-1)
        make_trainer(tmp_path, [checkpoint], max_epochs=epochs).fit(
            module, datamodule=data, ckpt_path=ckpt_path
        )
        return module.seen

    uninterrupted = fit(3)
    assert [sorted(epoch) for epoch in uninterrupted] == [list(range(TRAIN))] * 3
    assert uninterrupted[0] != uninterrupted[1] != uninterrupted[2]
    assert fit(1) == uninterrupted[:1]
    assert fit(3, tmp_path / "1.ckpt") == uninterrupted[1:]


class KilledError(Exception):
    """Ends a run as a kill would."""


@pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")  # Lightning's own
@pytest.mark.parametrize("workers", [0, 2])
def test_the_epochs_after_that_of_a_resumption_are_whole(
    shards: Path, tmp_path: Path, workers: int
) -> None:
    def fit(module: Recorder, ckpt_path: Path | None = None) -> list[list[int]]:
        data = ImageNetStreamingData(str(shards), batch_size=4, num_workers=workers)
        data.preprocessing = SQUARE
        checkpoints = RunCheckpoints(str(tmp_path), every_n_steps=2)
        make_trainer(tmp_path, [checkpoints], max_epochs=4, limit_val_batches=0).fit(
            module, datamodule=data, ckpt_path=ckpt_path, weights_only=True
        )
        return module.seen

    class Killed(Recorder):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 3:
                raise KilledError

    uninterrupted = fit(Recorder())
    assert [sorted(epoch) for epoch in uninterrupted] == [list(range(TRAIN))] * 4
    with pytest.raises(KilledError):
        fit(Killed())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    resumed = Recorder()
    resumed.seen.append([])  # of the epoch that has begun
    expected = [uninterrupted[0][8:], *uninterrupted[1:]]
    assert fit(resumed, tmp_path / "last.ckpt") == expected


class Executed:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_in_a_shard_is_refused_and_not_executed(tmp_path: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    trace = tmp_path / "executed"
    pickle.loads(pickle.dumps(Executed(trace)))  # the trap works
    trace.unlink()
    directory = tmp_path / "shards"
    directory.mkdir()
    writer = BinaryWriter(str(directory), chunk_bytes=10_000)
    writer[0] = Executed(trace)
    writer.done()
    writer.merge()
    assert "pickle" in (directory / "index.json").read_text()
    dataset = open_split(str(directory), SQUARE, shuffle=False, seed=0, cache_dir=None)
    with pytest.raises(ValueError, match="Expected shards of encoded images"):
        dataset[0]
    assert not trace.exists()


def test_no_root() -> None:
    with pytest.raises(ValueError, match=r"data\.root.*saliency_vae\.shard"):
        ImageNetStreamingData(None)


def test_shards_that_were_not_finished(shards: Path) -> None:
    (shards / "val/index.json").unlink()
    with pytest.raises(ValueError, match=f"complete shards of images in {shards}/val"):
        data_of(shards)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["shard.py", "num_workers=0", *arguments])
    shard()


def test_the_command(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tree.parent / "new"
    run(monkeypatch, f"root={tree}", f"output={output}")
    printed = capsys.readouterr().out
    assert f"{output}/train: {TRAIN} images in 1 shards" in printed
    assert f"data=imagenet_streaming data.root={output}" in printed
    assert sorted(order(output, 0)) == list(range(TRAIN))
    assert order(output, 0) != list(range(TRAIN))
    with pytest.raises(SystemExit, match=f"error: .*{output} without shards"):
        run(monkeypatch, f"root={tree}", f"output={output}")


def test_the_command_leaves_out_what_is_no_image(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tree / "train/n01/broken.png"
    broken.write_bytes((tree / "train/n01/00.png").read_bytes()[:40])
    output = tree.parent / "new"
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, f"root={tree}", f"output={output}")
    assert ended.value.code == 1
    assert f"left out, not an image: {broken}" in capsys.readouterr().out
    assert sorted(order(output, 0)) == list(range(TRAIN))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("root=/nowhere", "Not found: /nowhere/train"),
        ("shard_megabytes=0", "Expected shard_megabytes >= 1. Found 0."),
        ("num_workers=-1", "Expected num_workers >= 0. Found -1."),
        ("root=s3://bucket/x", "Expected root=DIR on this machine. Found s3://bucket/x."),
        ("output=gs://bucket/x", "output=DIR .* Found gs://bucket/x.*data.root=URL reads them"),
    ],
)
def test_wrong_settings_of_the_command(
    tree: Path, monkeypatch: pytest.MonkeyPatch, argument: str, message: str
) -> None:
    monkeypatch.chdir(tree.parent)
    settings = {"root": f"root={tree}", "output": f"output={tree.parent}/new"}
    settings[argument.partition("=")[0]] = argument
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        run(monkeypatch, *settings.values())
    assert set(os.listdir()) == {"tree"}
