"""`salticid encode`: run the frozen parts of a recipe over its training samples once and for all."""

import shlex
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from salticid import presets
from salticid.commands.parser import Parser, natural, positive
from salticid.config.classes import allowed_packages
from salticid.config.overrides import Override

if TYPE_CHECKING:
    from salticid.config.difference import Plain
    from salticid.config.run import RunConfig
    from salticid.engine.latents.worker import Worker
    from salticid.engine.signals import StopFlag

INTERRUPTED = 130
BATCH = 8
"""Samples at a time, where training does not say."""

EPILOG = """
Train from them with the key `latents`:
  salticid encode marigold-v1-1 --output latents --data.parts.hypersim.data.root DIR …
  salticid train  marigold-v1-1 --latents latents --data.parts.hypersim.data.root DIR …

Start it as often as there are GPUs: in several shells, under torchrun, as a SLURM array, on any machines that see the
folder. Each takes what no other has in hand. After a crash, or Ctrl-C, the same command does what is missing. Keys of
the configuration can be set as for training; it encodes with trainer.precision."""


def parser() -> Parser:
    description = "Run the frozen parts of a recipe over its training samples once and for all."
    parser = Parser("encode", description, EPILOG)
    parser.add_argument("source", metavar="PRESET|FILE.yaml|RUN", help="what is to be trained, or a run of it")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder for them: new, or begun")
    batch = f"samples at a time (trainer.micro_batch, where that is a number; else {BATCH})"
    parser.add_argument("--batch", type=positive, metavar="N", help=batch)
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="as which numbers are kept (fp32)")
    parser.add_argument("--workers", type=natural, metavar="N", help="processes that read samples (trainer.workers)")
    parser.add_argument("--shard", type=positive, metavar="N", help="samples in a file (256)")
    parser.add_allow()
    return parser


def run(arguments: list[str]) -> int:
    options, overrides = parser().read_with_overrides(arguments)
    config, built = _configured(options, overrides)
    from salticid.engine.evaluation import Stopped
    from salticid.engine.signals import StopFlag

    stop = StopFlag()
    worker = _worker(options, config, built, f"salticid encode {shlex.join(arguments)}", stop)
    try:
        with stop:
            missing = worker.run()
    except Stopped:
        print("interrupted; the same command goes on")
        return INTERRUPTED
    finally:
        worker.progress.close()
    _show(worker, missing)
    return 0


def _configured(options: Namespace, overrides: list[Override]) -> tuple["Plain", "RunConfig"]:
    """The configuration to encode for, and what is built from it."""
    from salticid.config.run import build_config, load_config
    from salticid.engine.run import CONFIG, open_run

    allowed = allowed_packages(options.allow)
    run = Path(options.source)
    path = open_run(run) / CONFIG if run.is_dir() else presets.find(options.source)
    config = load_config(path, overrides, allowed)
    return config, build_config(config, allowed)


def _worker(options: Namespace, config: "Plain", built: "RunConfig", command: str, stop: "StopFlag") -> "Worker":
    """Get ready to encode, and see to it that the folder is fit for it."""
    from salticid.commands.checkpoints import prepare
    from salticid.config.difference import samples_of
    from salticid.engine.latents.encode import Encoder, begin, check_outcomes
    from salticid.engine.latents.fingerprint import fingerprint
    from salticid.engine.latents.worker import Worker
    from salticid.engine.parallel import pick_device
    from salticid.engine.precision import settle
    from salticid.engine.progress import Progress

    recipe, trainer, source = built.recipe, built.trainer, built.data.train()
    trainer.check()
    recipe.check(built.data)
    recipe.start(fresh=False)
    precision = settle(trainer.precision, pick_device(trainer.device))
    identity = fingerprint(recipe, source, samples_of(config), precision)
    check_outcomes(source)
    batch = options.batch or (trainer.micro_batch if isinstance(trainer.micro_batch, int) else BATCH)
    workers = trainer.workers if options.workers is None else options.workers
    encoder = Encoder(recipe, prepare(recipe, trainer), precision, batch, workers)
    latents = encoder.probe(source)
    index = begin(
        options.output, identity, latents, storage=options.dtype, samples_per_shard=options.shard, command=command
    )
    progress = Progress(len(source), unit="sample")
    worker = Worker(encoder, source, options.output, index, progress, lambda: stop.raised)
    worker.check_room(latents)
    return worker


def _show(worker: "Worker", missing: list[int]) -> None:
    """What this worker has done, and what is left."""
    from salticid.engine.figures import memory, number

    done, shards = worker.figures, worker.index.shards
    if done.shards:
        speed = number(done.samples / done.seconds, 3)
        print(f"{done.samples} samples in {done.shards} shards, {memory(done.bytes)}, {speed} samples/s")
    if done.skipped:
        name, reason = next(iter(done.skipped.items()))
        print(f"{len(done.skipped)} samples cannot be read; the first: {name}: {reason}")
    if missing:
        print(f"{worker.folder}: other workers have {len(missing)} of {shards} shards in hand")
    else:
        print(f"{worker.folder} is complete; train from it with --latents {worker.folder}")
