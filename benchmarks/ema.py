"""EMA update: one fused lerp over all parameters, beside the usual loop of `mul_` and `add_` over parameters.

python benchmarks/ema.py [--width 512] [--layers 24]
"""

import argparse
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from salticid.engine.ema import Ema, EmaConfig

DECAY = 0.999


def transformer(width: int, layers: int) -> nn.Module:
    return nn.Sequential(*(nn.TransformerEncoderLayer(width, 8, 4 * width) for _ in range(layers)))


def loop(averages: list[Tensor], parameters: list[Tensor]) -> None:
    with torch.no_grad():
        for average, parameter in zip(averages, parameters, strict=True):
            average.data.mul_(DECAY).add_(parameter.data, alpha=1 - DECAY)


def milliseconds(action, device: str, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = perf_counter()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (perf_counter() - start))
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    model = transformer(options.width, options.layers).to(options.device)
    weights: dict[str, Tensor] = dict(model.named_parameters())
    ema = Ema(EmaConfig(DECAY, ramp=False), weights)
    parameters, averages = list(weights.values()), [p.detach().clone() for p in weights.values()]
    actions = {"ours": lambda: ema.update(weights, 1), "loop": lambda: loop(averages, parameters)}
    for action in actions.values():
        milliseconds(action, options.device, 3)
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(5):  # in turns, so that a busy machine slows both
        for name, action in actions.items():
            times[name].append(milliseconds(action, options.device, options.repeats // 5))
    best = {name: min(values) for name, values in times.items()}
    count = sum(p.numel() for p in parameters)
    threads = torch.get_num_threads()
    print(f"{len(parameters)} tensors, {count / 1e6:.1f} M parameters, {options.device}, {threads} threads")
    print(f"ours {best['ours']:.3f} ms, loop {best['loop']:.3f} ms: {best['loop'] / best['ours']:.2f}×")


if __name__ == "__main__":
    main()
