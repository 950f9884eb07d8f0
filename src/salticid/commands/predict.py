"""`salticid predict`: run a trained model on files."""

import inspect
from pathlib import Path

from salticid.commands.checkpoints import WEIGHTS_HELP, add_checkpoint, prepare, usual_weights
from salticid.commands.options import Request, read_request
from salticid.commands.parser import Parser
from salticid.errors import UserError

EPILOG = "Recipes have options of their own: salticid predict RUN --help lists them."


def parser() -> Parser:
    parser = Parser("predict", "Run a trained model on files.", EPILOG)
    add_checkpoint(parser)
    parser.add_argument("--input", type=Path, nargs="+", required=True, metavar="FILE", help="what to run it on")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="where the result goes")
    parser.add_argument("--weights", choices=("ema", "raw"), help=WEIGHTS_HELP)
    parser.add_argument("--seed", type=int, default=0, help="of the noise that the model starts from (0)")
    return parser


def run(arguments: list[str]) -> None:
    request = read_request(parser(), arguments, "predict")
    _check_inputs(request.options.input)
    for path in _predict(request):
        print(path)


def _check_inputs(paths: list[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise UserError(f"--input {path}: there is no such file")


def _predict(request: Request) -> list[Path]:
    from salticid.config.run import build_model
    from salticid.engine.evaluation import judging, load_for_inference
    from salticid.engine.precision import for_inference

    options, keywords = request.options, request.keywords
    recipe, trainer = build_model(request.config, request.allowed)
    device = prepare(recipe, trainer)
    load_for_inference(request.checkpoint, recipe, options.weights or usual_weights(request.checkpoint))
    if "seed" in inspect.signature(recipe.predict).parameters:
        keywords = keywords | {"seed": options.seed}
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with judging(recipe, device, for_inference(trainer.precision, device), options.seed):
            return recipe.predict(options.input, options.output, **keywords)
    except OSError as error:
        if error.filename is None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from error
