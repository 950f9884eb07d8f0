"""`salticid export`: write a trained model in the format of others."""

from pathlib import Path

from salticid.commands.checkpoints import WEIGHTS_HELP, add_checkpoint, usual_weights
from salticid.commands.options import Request, read_request
from salticid.commands.parser import Parser
from salticid.errors import UserError

EPILOG = "Recipes have options of their own: salticid export RUN --help lists them."


def parser() -> Parser:
    parser = Parser("export", "Write a trained model in the format of others.", EPILOG)
    add_checkpoint(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where it goes")
    parser.add_argument("--weights", choices=("ema", "raw"), help=WEIGHTS_HELP)
    return parser


def run(arguments: list[str]) -> None:
    for path in _export(read_request(parser(), arguments, "export")):
        print(path)


def _export(request: Request) -> list[Path]:
    from salticid.config.run import build_model
    from salticid.engine.evaluation import load_for_inference

    recipe, _ = build_model(request.config, request.allowed)
    load_for_inference(request.checkpoint, recipe, request.options.weights or usual_weights(request.checkpoint))
    recipe.eval()
    try:
        return recipe.export(request.options.output, **request.keywords)
    except OSError as error:
        if error.filename is None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from error
