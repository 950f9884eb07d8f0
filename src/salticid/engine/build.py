"""From a recipe and settings to something that can take steps."""

import torch
from torch import nn

from salticid.engine.ema import Ema
from salticid.engine.parallel import Parallel, Ranks, shard
from salticid.engine.precision import settle
from salticid.engine.recipe import Recipe
from salticid.engine.settings import Settings, TrainerConfig
from salticid.engine.state import TrainState, parameters_by_phase
from salticid.engine.step import PhaseRunner


def build(recipe: Recipe, settings: Settings, ranks: Ranks, micro_batch: int) -> TrainState:
    """Bring the recipe to its device and its ranks, and make its optimisers and its average."""
    trainer = settings.trainer
    _prepare(recipe, trainer, ranks)
    groups = parameters_by_phase(recipe)
    parallel = Parallel(recipe, groups, ranks)
    runners = [
        PhaseRunner(
            phase,
            groups[phase.name],
            settings.optimizer.build({p: phase.rate(name) for name, p in groups[phase.name].items()}),
            parallel,
            batch=trainer.batch,
            precision=settle(trainer.precision, ranks.device),
            clip=trainer.clip,
        )
        for phase in recipe.phases()
    ]
    state = TrainState(recipe, runners, None, micro_batch)
    state.ema = Ema(settings.ema, state.weights()) if settings.ema and trainer.steps else None
    return state


def set_arithmetic(trainer: TrainerConfig, device: torch.device) -> None:
    """Let this process's GPU compute as the settings say: TF32 in matrix products and convolutions or not, and
    deterministic kernels or not."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if trainer.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = trainer.tf32
        torch.use_deterministic_algorithms(trainer.deterministic, warn_only=True)


def _prepare(recipe: Recipe, trainer: TrainerConfig, ranks: Ranks) -> None:
    set_arithmetic(trainer, ranks.device)
    recipe.to(ranks.device)
    if trainer.channels_last:
        recipe.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
    recipe.train()
    ranks.equalise(recipe)
    if trainer.checkpoint_activations:
        recipe.checkpoint_activations()
    if trainer.compile:
        _compile(list(recipe.blocks()))
    if ranks.world > 1 and trainer.parallel == "fsdp":
        shard(recipe, ranks)


def _compile(blocks: list[nn.Module]) -> None:
    # Blocks of one class share their code, and with it torch's limit of variants; beyond it they would run uncompiled.
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, 8 * len(blocks))
    for block in blocks:
        block.compile()
