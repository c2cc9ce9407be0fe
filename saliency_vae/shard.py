"""Pack a tree of images in shards, for data=imagenet_streaming.

python -m saliency_vae.shard root=/data/imagenet output=/data/imagenet_shards
"""

from functools import partial
from pathlib import Path

from saliency_vae.cli.command import command
from saliency_vae.cli.validation import Node

SPLITS = ("train", "val")


@command("shard", paths=("root", "output"))
def shard(config: Node, run: Path) -> None:
    """Write the shards of both splits, and print what was written.

    Raises:
        ValueError: If a setting is wrong, before anything is written.
        SystemExit: With status 1, if some files are not images; all others are written.
    """
    # Imported here, so that --help does not wait for torch.
    from tqdm import tqdm

    from saliency_vae.data import list_images
    from saliency_vae.data.shards import INDEX, require_litdata, write_split

    require_litdata()
    check_on_this_machine(config)
    root, output = Path(config["root"]), Path(config["output"])
    check_directories(root, output)
    paths = {split: list_images(root / split) for split in SPLITS}
    broken: list[Path] = []
    for split in SPLITS:
        total = len(paths[split])
        left_out = write_split(
            paths[split],
            output / split,
            shard_bytes=config["shard_megabytes"] * 10**6,
            num_workers=config["num_workers"],
            seed=config["seed"],
            progress=partial(tqdm, desc=split, total=total, unit="image"),
        )
        shards = len(list((output / split).iterdir())) - 1  # minus the index
        print(f"{output / split}: {total - len(left_out)} images in {shards} shards and {INDEX}")
        broken += left_out
    for path in broken:
        print(f"left out, not an image: {path}")
    if broken:
        raise SystemExit(1)
    print(f"To train: python -m saliency_vae.train data=imagenet_streaming data.root={output}")


def check_on_this_machine(config: Node) -> None:
    """Refuse URLs for root and output.

    Raises:
        ValueError: If one of them is a URL.
    """
    for name in ("root", "output"):
        if "://" in str(config[name]):
            raise ValueError(
                f"Expected {name}=DIR on this machine. Found {config[name]}. Write the shards to "
                "a directory and copy it with the store's own tool: data.root=URL reads them there."
            )


def check_directories(root: Path, output: Path) -> None:
    """Refuse a tree that lacks a split, or an output directory that already has shards.

    Raises:
        ValueError: In either case.
    """
    for split in SPLITS:
        if not (root / split).is_dir():
            raise ValueError(
                f"Expected root={root} to hold the directories train and val. "
                f"Not found: {root / split}."
            )
        if (output / split).exists() and any((output / split).iterdir()):
            raise ValueError(
                f"Expected output={output} without shards. Found files in {output / split}."
            )


if __name__ == "__main__":
    shard()
