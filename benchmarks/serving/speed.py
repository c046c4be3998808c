"""How fast the service is, what batching gains, and whether its memory stays flat.

    python -m benchmarks.serving.speed
    python -m benchmarks.serving.speed --checkpoint outputs/vae/sweep --requests 2000

`python -m serving.app` runs in a process of its own; this one is its clients, over loopback. The
bare decoder is the network alone, in this process, with as many threads as the service has.
Exits with 1 if a request fails, takes longer than the service's time limit, or memory grows.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import ROOT, composed, machine, photos, result
from benchmarks.serving.service import Ask, Load, Service, load, run_service

CLIENTS = 32
IMAGES = 64
GROWTH_MIB = 32
"""Memory that the service may gain between the first tenth of the requests and the last."""

MOST_BUSY = 0.1
"""Share of the cores that other work may take."""

PNG = Ask("generate, PNG", "/v1/generate", {"count": IMAGES, "seed": 1})
JSON = Ask("generate, JSON", "/v1/generate?format=json", {"count": IMAGES, "seed": 1})
ONE = Ask("generate 1 image", "/v1/generate?format=json", {"count": 1, "seed": 1})
FOUR = Ask("generate 4 images", "/v1/generate?format=json", {"count": 4, "seed": 1})


@contextmanager
def checkpoint(given: str | None, directory: str) -> Iterator[str]:
    """The model to be served: the given one, or the default network trained for an epoch."""
    if given is None:
        from experiments.trial import run_trial

        config = composed(*photos(), "max_epochs=1", "logger=none", "trainer.progress=false")
        given = str(run_trial(config, Path(directory) / "trial", in_sweep=True).directory)
    yield given


def reconstruct() -> Ask:
    """A request to reconstruct a photo as a telephone's messenger sends it."""
    import numpy as np
    from PIL import Image

    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
    return Ask("reconstruct a photo", "/v1/reconstruct?format=json", file.getvalue())


def decoder(model: str) -> Callable[[], object]:
    """The network's decoder alone, for a batch of 64."""
    import torch

    from serving.model import latents
    from serving.model.checkpoints import load as load_model

    network = load_model(model).network
    z = latents.draw(IMAGES, network.latent_dim, seed=1)

    @torch.inference_mode()
    def decode() -> object:
        return network.decode(z)

    return decode


def latency(service: Service, decode: Callable[[], object], rounds: int) -> list[Load]:
    """Each of the ways in turn, one request at a time."""
    ways = {"bare decoder": decode}
    with service.connection() as connection:
        ways |= {ask.name: lambda ask=ask: connection.send(ask) for ask in (PNG, JSON)}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(-5, rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - began)
    return [Load(name, values, sum(values), []) for name, values in seconds.items()]


def print_latency(found: Sequence[Load]) -> None:
    """Milliseconds, and each median over the bare decoder's."""
    print(f"\n{'64 images':<28}  {'p50 ms':>8}  {'p99 ms':>8}  {'ratio':>6}")
    for way in found:
        ratio = way.percentile(50) / found[0].percentile(50)
        if way is not found[0]:
            took = f"p50 {way.percentile(50) * 1e3:.0f} ms"
            result(f"service: {way.name}, against the bare decoder", ratio, "< 3", beside=took)
        print(
            f"{way.name:<28}  {way.percentile(50) * 1e3:>8.1f}  "
            f"{way.percentile(99) * 1e3:>8.1f}  {ratio:>6.2f}"
        )


def throughput(
    service: Service, unbatched: Service, asks: Sequence[Ask], requests: int
) -> list[tuple[Load, Load, Load]]:
    """Of each kind of request: one client, 32 without batching, 32."""
    found = []
    for ask in asks:
        for warm in (service, unbatched):
            load(warm, [ask], CLIENTS, 4 * CLIENTS)
        found.append(
            (
                load(service, [ask], 1, requests // 4),
                load(unbatched, [ask], CLIENTS, requests),
                load(service, [ask], CLIENTS, requests),
            )
        )
    return found


def print_throughput(found: Sequence[tuple[Load, Load, Load]]) -> None:
    """Requests a second, and what batching gains."""
    names = (f"1 client, {CLIENTS} clients with --batch 1, {CLIENTS} clients").split(", ")
    print(f"\n{'requests a second':<42}  {'per s':>7}  {'times':>6}  {'p50 ms':>7}  {'p99 ms':>7}")
    for row in found:
        result(
            f"service: {row[0].name}, {CLIENTS} clients against one",
            row[-1].rate / row[0].rate,
            ">= 2",
            beside=f"{row[-1].rate:.0f} and {row[0].rate:.0f} requests a second",
        )
        for name, way in zip(names, row, strict=True):
            print(
                f"{f'{way.name}, {name}':<42}  {way.rate:>7.0f}  {way.rate / row[0].rate:>6.2f}  "
                f"{way.percentile(50) * 1e3:>7.1f}  {way.percentile(99) * 1e3:>7.1f}"
            )


def memory(service: Service, asks: Sequence[Ask], requests: int) -> tuple[float, list[Load]]:
    """MiB gained from a tenth of the requests to all of them, printed as it goes."""
    print(f"\n{'requests of all kinds':<28}  {'MiB':>8}")
    done, seen, loads = 0, [], []
    for until in (requests // 10, requests // 2, requests):
        loads.append(load(service, asks, CLIENTS, until - done))
        done = until
        seen.append(service.resident_mebibytes())
        print(f"{done:<28,}  {seen[-1]:>8.1f}", flush=True)
    return seen[-1] - seen[0], loads


def attacked(service: Service, asks: Sequence[Ask], requests: int) -> list[Load]:
    """What one honest client sees alone, and beside a thousand hostile requests, printed."""
    alone = load(service, asks, 1, requests)
    # It stands for other machines, which have processors of their own.
    command = ["nice", "-n", "10", sys.executable, "-m", "tests.hostile.attack", str(service.port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as attack:
        beside = Load("beside hostile requests")
        while attack.poll() is None:
            found = load(service, asks, 1, len(asks))
            beside.seconds += found.seconds
            beside.errors += found.errors
    print(f"\n{'an honest client':<28}  {'p50 ms':>8}  {'p99 ms':>8}")
    for name, way in (("alone", alone), ("beside hostile requests", beside)):
        print(f"{name:<28}  {way.percentile(50) * 1e3:>8.1f}  {way.percentile(99) * 1e3:>8.1f}")
    ratio = beside.percentile(99) / alone.percentile(99)
    result("service: an honest client's p99 beside hostile requests, against alone", ratio, "< 3")
    return [alone, beside]


def failures(loads: Sequence[Load], limit: float) -> list[str]:
    """What must not happen."""
    bad = [f"{each.name}: {reason}" for each in loads for reason in each.errors]
    late = [each for each in loads if max(each.seconds) > limit]
    return bad + [f"{each.name}: took {max(each.seconds):.1f} s of {limit:g} s" for each in late]


def warn_of_other_work() -> None:
    """Say so where others use the cores: the bare decoder suffers more than the service.

    Its threads wait for each other at every layer, so the ratio looks better than it is.
    """
    stat = Path("/proc/stat")
    if not stat.is_file():
        return

    def ticks() -> list[int]:
        return [int(n) for n in stat.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]

    before = ticks()
    time.sleep(2)
    passed = [after - own for own, after in zip(before, ticks(), strict=True)]
    busy = 1 - (passed[3] + passed[4]) / sum(passed)
    if busy > MOST_BUSY:
        print(f"not valid: other work takes {busy:.0%} of the cores", flush=True)


def measure(arguments: argparse.Namespace, model: str, directory: str) -> list[str]:
    """Print the tables; what went wrong."""
    import torch

    from serving.api.settings import Settings

    threads = arguments.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    print(f"{machine()}\nserving {model}, {threads} threads")
    warn_of_other_work()
    options = ["--checkpoint", model, "--threads", str(threads)]
    asks = [ONE, FOUR, reconstruct()]
    with run_service(options, directory) as service:
        alone = latency(service, decoder(model), arguments.rounds)
        print_latency(alone)
        warn_of_other_work()
        with run_service([*options, "--batch", "1"], directory) as unbatched:
            together = throughput(service, unbatched, asks, arguments.requests // 10)
        print_throughput(together)
        growth, mixed = memory(service, asks, arguments.requests)
        honest = attacked(service, asks, arguments.requests // 10)
    warn_of_other_work()
    loads = [*alone, *(way for row in together for way in row), *mixed, *honest]
    found = failures(loads, Settings().timeout)
    result(f"service: memory over {arguments.requests:,} requests", growth, f"<= {GROWTH_MIB}",
           unit="MiB more")  # fmt: skip
    if growth > GROWTH_MIB:
        found.append(f"memory grew by {growth:.1f} MiB, and {GROWTH_MIB} are allowed")
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkpoint", help="to serve; without it, a model is trained for it")
    parser.add_argument("--requests", type=int, default=10_000, help="of the longest load (10000)")
    parser.add_argument("--rounds", type=int, default=100, help="of the latencies (100)")
    parser.add_argument("--threads", type=int, help="of PyTorch, in both processes (one a core)")
    arguments = parser.parse_args()
    if arguments.requests < 1000:
        parser.error(f"`--requests` must be 1000 or more, but got {arguments.requests}")
    with (
        tempfile.TemporaryDirectory() as directory,
        checkpoint(arguments.checkpoint, directory) as model,
    ):
        found = measure(arguments, model, directory)
    for line in found[:20]:
        print(f"failed: {line}", file=sys.stderr)
    print("\nno request failed or was late; memory is flat" if not found else "")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
