"""``repserve bench offline``: the steps of the RepVGG offline guide, with its arguments and its files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich.console import Console

from repserve_bench.dataset import load_dataset
from repserve_bench.offline.command import FILE, FOLDER, NEW_FILE, NEW_FOLDER, end_with, reported
from repserve_bench.offline.errors import BadImageError, OfflineError
from repserve_bench.offline.evaluation import evaluate_dumps
from repserve_bench.offline.files import TENSOR_SUFFIX, stem_of
from repserve_bench.offline.image_reader import ImageReader
from repserve_bench.offline.info import SUFFIXES, InfoEntry, format_info, image_entry, list_files
from repserve_bench.offline.model_commands import infer, run_all
from repserve_bench.offline.perf_file import guide_line, read_throughput
from repserve_bench.offline.preprocess import model_preprocessing, preprocess_images
from repserve_bench.progress import image_display
from repserve_server.files import write_whole
from repserve_server.process import available_cpus


@click.group()
def offline() -> None:
    """Run the steps of the RepVGG offline guide, with its arguments and files; 'all' runs the whole chain."""


offline.add_command(infer)
offline.add_command(run_all)


@offline.command()
@click.argument("model")
@click.argument("source", metavar="IMAGES", type=FOLDER)
@click.argument("destination", metavar="OUT", type=NEW_FOLDER)
@click.option("--exact", is_flag=True, help="Produce the same bytes as the guide's script (slower).")
@click.option("--processes", type=click.IntRange(1), help="Number of decoding processes (default: one per CPU).")
@reported
def preprocess(*, model: str, source: Path, destination: Path, exact: bool, processes: int | None) -> None:
    """Make a .bin file of each image: raw float32 [3, 224, 224], little-endian, normalised.

    MODEL is the name of the guide's preprocessing: repvgg. No pixel is further than one grey level from what the
    guide's script makes of it, and few are off; with --exact none is. Exits with 1 when an image cannot be used; the
    others are written.
    """
    reader = ImageReader(model_preprocessing(model), exact=exact)
    images = [sample.path for sample in load_dataset(source).samples]
    began = time.monotonic()
    with image_display(Console(), "preprocess", len(images)) as advance:
        problems = preprocess_images(
            images, destination, reader, processes=processes or available_cpus(), advance=advance
        )
    seconds = time.monotonic() - began
    click.echo(f"{len(images) - len(problems)} of {len(images)} images written to {destination} in {seconds:.1f} s")
    others = _other_tensors(destination, images)
    if others:
        click.echo(
            f"{destination} also holds {others} {TENSOR_SUFFIX} files that belong to none of these images; the next "
            "step would use them too",
            err=True,
        )
    end_with(problems)


def _other_tensors(folder: Path, images: list[Path]) -> int:
    stems = {stem_of(image.name) for image in images}
    return sum(file.suffix == TENSOR_SUFFIX and stem_of(file.name) not in stems for file in folder.iterdir())


@offline.command()
@click.argument("kind", metavar="bin|jpg", type=click.Choice(sorted(SUFFIXES)))
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("target", metavar="OUT.info", type=NEW_FILE)
@click.argument("width", type=click.IntRange(1), required=False)
@click.argument("height", type=click.IntRange(1), required=False)
@reported
def info(*, kind: str, folder: str, target: Path, width: int | None, height: int | None) -> None:
    """List tensors (bin) or images (jpg) for 'infer': a line 'INDEX PATH WIDTH HEIGHT' each, sorted by name.

    WIDTH and HEIGHT are those of the tensors' images, such as 224 224. Images have their own size.
    """
    paths = list_files(kind, folder)
    entries: list[InfoEntry] = []
    problems: list[str] = []
    if kind == "bin":
        if width is None or height is None:
            raise click.UsageError("WIDTH and HEIGHT are needed for type bin, such as 224 224")
        entries += [InfoEntry(path, width, height) for path in paths]
    else:
        for path in paths:
            try:
                entries.append(image_entry(path))
            except BadImageError as error:
                problems.append(str(error))
    if not entries:
        raise OfflineError(f"none of the {len(paths)} images can be used; the first: {problems[0]}")
    write_whole(target, format_info(entries))
    click.echo(f"{len(entries)} files of {folder} listed in {target}")
    end_with(problems)


@offline.command()
@click.argument("dumps", metavar="DUMP_DIR", type=FOLDER)
@click.argument("labels", type=FILE)
@click.argument("target", metavar="OUT.json | OUT_DIR", type=click.Path(path_type=Path))
@click.argument("name", metavar="[result.json]", required=False)
@reported
def postprocess(*, dumps: Path, labels: Path, target: Path, name: str | None) -> None:
    """Compare the scores in DUMP_DIR with the labels and write the guide's result.json.

    LABELS is val_label.txt: a line 'NAME CLASS' for each image. Of equal scores the lower class counts as the higher
    score.
    """
    file = target if name is None else target / name
    if file.is_dir():
        raise OfflineError(f"{file} is a folder; expected the name of a file, such as {file / 'result.json'}")
    evaluation = evaluate_dumps(dumps, labels)
    write_whole(file, evaluation.to_json().encode())
    click.echo(evaluation.summary())
    click.echo(f"written to {file}")


@offline.command()
@click.argument("file", type=FILE)
@click.argument("chip", metavar="310P|310", type=click.Choice(["310P", "310"]))
@reported
def parse(*, file: Path, chip: str) -> None:
    """Print the guide's line of a throughput file: '310P bs16 fps:8752.1'. A .json is printed as it is.

    A 310 is a card of four devices, so that its line has four times the throughput of the file.
    """
    if file.suffix == ".json":
        try:
            text = file.read_text(encoding="utf-8")
            json.loads(text)
        except ValueError as error:
            raise OfflineError(f"{file} is not valid JSON: {error}") from error
        click.echo(text.rstrip("\n"))
        return
    quoted = read_throughput(file)
    click.echo(guide_line(chip, quoted))
    if quoted.remark:
        click.echo(quoted.remark, err=True)
