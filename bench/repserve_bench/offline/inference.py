"""One run of a model and the files it leaves: dumps of the scores, and the throughput."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from repserve_bench.offline.dumps import DumpWriter, check_dumps, remove_dumps, simulated_note
from repserve_bench.offline.files import check_stems, stem_of
from repserve_bench.offline.image_reader import ImageReader
from repserve_bench.offline.input_reader import InputReader
from repserve_bench.offline.model_run import ModelRun, RunOutcome, Sink
from repserve_bench.offline.perf_file import perf_file_name
from repserve_bench.progress import image_display
from repserve_server.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from repserve_bench.offline.model import OfflineModel


def perf_file(model: OfflineModel, output: Path) -> Path:
    """Return the file that a run's throughput is written to."""
    return output / perf_file_name(model.batch_size, model.device_id)


def dump_folder(model: OfflineModel, output: Path) -> Path:
    """Return the folder that a run's scores are written to; the benchmark tool names it so."""
    return output / f"dumpOutput_device{model.device_id}"


def run_inference(
    model: OfflineModel,
    files: Sequence[Path],
    output: Path,
    console: Console,
    *,
    dumps: str | None = "text",
    exact: bool = False,
    sink: Sink | None = None,
) -> RunOutcome:
    """Run a model over files and write the dumps and the throughput, each when it is complete.

    An earlier run's files stay until then. A run without dumps removes those of an earlier one when it is complete.

    Args:
        model: Loaded in this thread.
        files: Tensors or images; their stems name the dumps.
        output: Folder for the results.
        console: Where the progress is shown.
        dumps: ``text``, ``binary``, or None for none.
        exact: Whether images are prepared exactly as the guide's script does.
        sink: Gets each image's scores as well.

    Raises:
        OfflineError: Two files would share a dump, the dump folder holds something else, or the run failed.
        BackendError: The device failed.
        OSError: Something cannot be written.
    """
    check_stems(files)
    spec = model.backend.input
    reader = InputReader(spec, ImageReader(model.preprocessing, spec.dtype, exact=exact), time.perf_counter)
    target, folder = perf_file(model, output), dump_folder(model, output)
    with contextlib.ExitStack() as stack:
        writer = None
        if dumps is None:
            check_dumps(folder)
        else:
            writer = stack.enter_context(
                DumpWriter(folder, binary=dumps == "binary", simulated=model.simulated),
            )

        def take(file: Path, scores: NDArray[np.float32]) -> None:
            if writer is not None:
                writer.write(stem_of(file.name), scores)
            if sink is not None:
                sink(file, scores)

        advance = stack.enter_context(image_display(console, "infer", len(files)))
        run = ModelRun(model.backend, model.batch_size, reader, take, watch=model.watch)
        outcome = run.run(files, advance)
    if dumps is None:
        remove_dumps(folder)
        simulated_note(folder).unlink(missing_ok=True)
    write_whole(target, outcome.throughput.format(model.simulated).encode())
    return outcome
