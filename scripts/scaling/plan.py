"""Which runs a sweep has: every configuration once a repeat, in random order."""

import hashlib
import itertools
import json
import random

from causeway_script import Refused

# What a configuration is; the key of a run is a hash of these and of its repeat.
FIELDS = ("topic", "ranks", "threads", "tokens", "channels", "model", "operator", "layout", "strategy", "shard",
          "device", "dtype", "options")
TOPICS = ("step", "strategies", "operators")


def numbers(text, name):
    """The values of "1,2,4" or "4K,1M": K = 1024, M = 1024²."""
    found = []
    for word in text.split(","):
        digits, unit = (word[:-1], {"K": 1 << 10, "M": 1 << 20}[word[-1]]) if word[-1:] in ("K", "M") else (word, 1)
        if not digits.isdecimal() or not 1 <= int(digits) * unit <= 1 << 31:
            raise Refused(f"{name} has '{word}', expected numbers such as 1,2,4 or 4K,1M, each 1 to 2^31")
        found.append(int(digits) * unit)
    return sorted(set(found))


def packs(ranks, tokens, scaling):
    """(ranks, tokens of the pack): strong scaling keeps the pack, weak scaling the tokens of a rank."""
    pairs = {(n, t * (n if kind == "weak" else 1)) for n in ranks for t in tokens for kind in scaling}
    return sorted(pairs)


def configurations(settings):
    """A list of dictionaries with all of FIELDS. `settings`: the options of sweep."""
    found = []

    def add(topic, **fields):
        common = {"threads": settings.threads, "device": settings.device, "dtype": settings.dtype, "tokens": 0,
                  "channels": 0, "options": " ".join(settings.bench) if topic == "step" else settings.row_options}
        found.append({name: dict(common, topic=topic, **fields).get(name, "") for name in FIELDS})

    pairs = packs(settings.ranks, settings.tokens, settings.scaling)
    if "step" in settings.topics:
        for (n, tokens), model, layout, strategy, shard in itertools.product(
                pairs, settings.models, settings.layouts, settings.strategies, settings.shards):
            add(topic="step", ranks=n, tokens=tokens, model=model, layout=layout, strategy=strategy, shard=shard)
    if "strategies" in settings.topics:
        # One process measures every strategy of an operator. With one rank there is nothing to choose.
        for (n, tokens), operator, layout in itertools.product(pairs, settings.operators, settings.layouts):
            if n > 1:
                add(topic="strategies", ranks=n, tokens=tokens, channels=settings.channels, operator=operator,
                    layout=layout)
    if "operators" in settings.topics:
        add(topic="operators", ranks=1, operator=settings.filter)
    return found


def key_of(configuration, repeat):
    text = json.dumps([configuration[name] for name in FIELDS] + [repeat])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def runs_of(settings, seed):
    """All runs in the order of the seed: of the same options and seed always the same."""
    runs = [dict(configuration, repeat=repeat, key=key_of(configuration, repeat))
            for configuration in configurations(settings) for repeat in range(settings.repeats)]
    random.Random(seed).shuffle(runs)
    for order, run in enumerate(runs):
        run["run_order"] = order
    return runs


def label(run):
    """One line that says what a run is."""
    words = [run["topic"], run["model"] or run["operator"], f"{run['ranks']} rank{'s' if run['ranks'] > 1 else ''}"]
    words += [f"{run['tokens']:,} tokens"] if run["tokens"] else []
    words += [run[name] for name in ("layout", "strategy") if run[name] not in ("", "auto", "contiguous")]
    words += [f"shard {run['shard']}"] if run["shard"] else []
    return " ".join(word for word in words if word) + f", repeat {run['repeat'] + 1}"


def arguments_of(run, causeway, json_path):
    """The command of a run, without what starts its ranks."""
    command = [causeway, "bench", run["topic"], "--device", run["device"], "--json", json_path]
    command += ["--dtype", run["dtype"]] if run["dtype"] != "auto" else []
    if run["tokens"]:
        command += ["--tokens", str(run["tokens"])]
    if run["topic"] == "step":
        for option in ("model", "layout", "strategy", "shard"):
            command += [f"--{option}", run[option]] if run[option] else []
    if run["topic"] == "strategies":
        command += ["--layout", run["layout"]] if run["layout"] else []
        command += ["--channels", str(run["channels"]), "--filter", run["operator"] + " "]
    if run["topic"] == "operators" and run["operator"]:
        command += ["--filter", run["operator"]]
    return command + run["options"].split()
