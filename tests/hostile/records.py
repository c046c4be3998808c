"""Records and sweeps whose files say what nobody wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.hostile.files import Made, kind, wrong_values


def sweep_of(folder: Path, honest: Path, count: int = 3) -> list[Path]:
    """A sweep of copies of an honest record, with other seeds."""
    (folder / "study.json").write_text(json.dumps({"id": "a", "name": "x", "storage": "y"}))
    trials = []
    for number in range(count):
        trial = folder / str(number)
        shutil.copytree(honest, trial)
        change(trial / "result.json", partial(_as_trial, number))
        trials.append(trial)
    return trials


def _as_trial(number: int, result: dict[str, Any]) -> None:
    result |= {
        "seed": number,
        "objective": {"names": ["psnr"], "values": [20.0 + number]},
        "study": {"id": "a", "name": "x", "trial": number},
    }
    result["parameters"]["seed"] = number


def _named(name: str, result: dict[str, Any]) -> None:
    result |= {"name": name, "reason": name}
    result["parameters"] |= {"loss.name": name, "name": name}


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON object in a file."""
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def texts(whole: bytes) -> dict[str, bytes]:
    """What may stand in a file of JSON instead."""
    return {
        "empty": b"",
        "cut short": whole[: len(whole) // 2],
        "deep": b"[" * 200_000,
        "deep but closed": b'{"a":' * 900 + b"1" + b"}" * 900,
        "an array": b"[1, 2]",
        "a number of 5000 digits": b'{"schema": ' + b"1" * 5000 + b"}",
        "half a surrogate": whole.replace(b'"status"', b'"\\ud800": 1, "status"', 1),
        "no text": bytes(range(256)),
        "UTF-16": whole.decode().encode("utf-16"),
        "a text": b'"\\u001b]0;owned\\u0007"',
        "null": b"null",
        "NaN": whole.replace(b": 1,", b": NaN,", 1),
    }


@kind
def broken_results(folder: Path, honest: Path, random: Random) -> Made:
    for i, (name, text) in enumerate(texts((honest / "result.json").read_bytes()).items()):
        own = folder / str(i)
        own.mkdir()
        trials = sweep_of(own, honest)
        (trials[0] / "result.json").write_bytes(text)
        for reader in ("serve", "analyse"):
            yield f"{name}, {reader}", reader, str(own)
        yield f"{name}, alone", "serve", str(trials[0])


@kind
def wrong_results(folder: Path, honest: Path, random: Random) -> Made:
    """One trial of a sweep with a value of another type, at every key of its result.json."""
    result = json.loads((honest / "result.json").read_text())
    result |= {"objective": 0, "study": 0, "rerun_of": 0, "wandb": 0, "epochs": 0}
    inner = [("objective", "names"), ("objective", "values"), ("study", "trial"), ("study", "id"),
             ("parameters", "latent_dim"), ("parameters", "loss.name"), ("parameters", "objective"),
             ("parameters", "loss.degree"), ("parameters", "model.name"), ("parameters", "lr"),
             ("parameters", "data.fit"), ("metrics", "val"), ("timings", "fit_seconds"),
             ("data", "fingerprint"), ("hardware", "threads")]  # fmt: skip
    places: list[tuple[str, ...]] = [*((key,) for key in result), *inner]
    for i, place in enumerate(places):
        own = folder / str(i)
        own.mkdir()
        trials = sweep_of(own, honest, 2)
        # The value goes from key to key, so that all meet in the end, and other seeds draw others.
        value = random.choice(wrong_values())
        change(trials[1] / "result.json", partial(_put, place, value))
        yield f"{'.'.join(place)}={value!r}", ("serve", "analyse")[i % 2], str(own)
        yield f"{'.'.join(place)}={value!r}, too", ("serve", "analyse")[(i + 1) % 2], str(own)


def _put(place: tuple[str, ...], value: Any, content: dict[str, Any]) -> None:
    for key in place[:-1]:
        inner = content.get(key)
        content[key] = inner if isinstance(inner, dict) else {}
        content = content[key]
    content[place[-1]] = value


@kind
def only_broken(folder: Path, honest: Path, random: Random) -> Made:
    """Sweeps and trials without one that is sound."""
    for i, text in enumerate((b"{", b"{}", b'{"schema": 1, "status": "completed", "name": "a"}')):
        own = folder / str(i)
        own.mkdir()
        for trial in sweep_of(own, honest):
            (trial / "result.json").write_bytes(text)
        for reader in ("serve", "analyse"):
            yield f"{text!r}, {reader}", reader, str(own)


@kind
def beside_results(folder: Path, honest: Path, random: Random) -> Made:
    """Histories, configs, designs and owners."""
    for name in ("history.jsonl", "../comparison.json", "../study.json", "config.json"):
        whole = (honest / name).read_bytes() if name[0] != "." else b'{"schema": 1, "use": [0]}'
        chosen = texts(whole) | {
            "wrong rows": b'{"epoch": "\x1b[2J"}\n{"epoch": 1e999}\n{"epoch": [1]}\n',
            "rows of lists": b'[{"epoch": 1}]}\n',
            "a huge epoch": b'{"epoch": 100000000000000000000000, "val/psnr": 1.0}\n',
            "a use of all": b'{"schema": 1, "compare": [], "use": [[0], {"a": 1}, 1e400, -5]}',
            "a compare of texts": b'{"schema": 1, "compare": "\\u001b[2J", "use": "0"}',
            "a planned of a list": b'{"schema": 1, "compare": ["loss"], "planned": [1e999]}',
            "margins": b'{"schema": 1, "compare": ["loss"], "planned": 1e999, "margins": [1]}',
        }
        for i, (what, text) in enumerate(random.sample(sorted(chosen.items()), 7)):
            own = folder / f"{Path(name).stem}-{i}"
            own.mkdir()
            trials = sweep_of(own, honest, 2)
            (trials[0] / name).write_bytes(text)
            yield f"{name}: {what}", ("analyse", "serve")[i % 2], str(own)


@kind
def greedy_configs(folder: Path, honest: Path, random: Random) -> Made:
    """Of records that somebody trains again."""
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "latent_dim=1e9": lambda c: c.update(latent_dim=10**9),
        "latent_dim=1e30": lambda c: c.update(latent_dim=10**30),
        "latent_dim of text": lambda c: c.update(latent_dim="\x1b[2J4"),
        "width=1e9": lambda c: c["model"].update(width=10**9),
        "batch_size=1e18": lambda c: c.update(batch_size=10**18),
        "samples=1e12": lambda c: c["evaluation"].update(samples=10**12),
        "data.size=1e9": lambda c: c["data"].update(size=10**9),
        "data.count=1e12": lambda c: c["data"].update(count=10**12),
        "a model that is a list": lambda c: c.update(model=[1]),
        "a trainer that is a text": lambda c: c.update(trainer="x"),
        "data that is nothing": lambda c: c.pop("data"),
        "seed of 1e30": lambda c: c.update(seed=10**30),
    }
    for i, (name, how) in enumerate(changes.items()):
        own = Path(shutil.copytree(honest, folder / str(i)))
        change(own / "config.json", how)
        yield name, "rerun", str(own)
    for i, (name, text) in enumerate(texts((honest / "config.json").read_bytes()).items()):
        if name not in ("NaN", "UTF-16", "half a surrogate"):  # which are trained, rightly
            own = Path(shutil.copytree(honest, folder / f"text-{i}"))
            (own / "config.json").write_bytes(text)
            yield name, "rerun", str(own)


@kind
def names(folder: Path, honest: Path, random: Random) -> Made:
    """Names that write to a terminal what they like."""
    evil = ["\x1b]0;owned\x07", "\x1b[2J", "a\rb", "\u202egnp.exe", "\x9b2J", "a\nerror: owned"]
    for i, name in enumerate(evil):
        own = folder / f"{i}{name}"
        own.mkdir()
        trials = sweep_of(own, honest, 2)
        (trials[0] / "result.json").write_text("{")
        yield f"a folder {name!r}", random.choice(["serve", "analyse"]), str(own)
        yield f"no such {name!r}", "serve", str(folder / f"none{name}")
        inside = folder / f"inside-{i}"
        inside.mkdir()
        trials = sweep_of(inside, honest, 2)
        for trial in trials:
            change(trial / "result.json", partial(_named, name))
        shutil.move(trials[0], inside / f"t{name}")
        yield f"within {name!r}", "analyse", str(inside)
        (inside / f"t{name}" / "checkpoints/best.ckpt").write_text("hello")
        yield f"a trial {name!r}", "serve", str(inside / f"t{name}")


@kind
def sweep_files(folder: Path, honest: Path, random: Random) -> Made:
    """Sweep files of W&B's."""
    lines = "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    made = {
        "deep": "[" * 100_000,
        "deep parameters": "method: grid\nparameters: {a: " + "{parameters: {b: " * 400,
        "aliases": "a0: &a0 [0]\n" + lines + "method: *a39\nparameters: {lr: {values: *a39}}\n",
        "itself": "method: grid\nparameters: &p {lr: *p}\n",
        "a number": "method: grid\nparameters: {lr: {values: [1e400, .nan, -.inf]}}\n",
        "a range": "method: random\nparameters: {lr: {min: 1, max: 1e400}}\nrun_cap: 1e400\n",
        "too many": "method: grid\nparameters: {lr: {distribution: q_uniform, min: 0, max: 1e18, "
        "q: 1e-9}}\n",
        "code": "!!python/object/apply:os.system ['touch owned']",
        "escapes": 'method: "\\e]0;owned\\a"\nparameters: {"\\e[2J": {value: 1}}\n',
        "no mapping": "- 1\n- 2\n",
        "binary": "\x00\x01\x02",
        "keys of lists": "method: grid\nparameters: {? [a, b] : {value: 1}}\n",
    }
    for i, (name, text) in enumerate(made.items()):
        path = folder / f"{i}.yaml"
        path.write_text(text)
        yield name, "search", str(path)
