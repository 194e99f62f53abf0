"""The tables of a results file: columns with unit and meaning, and how the JSON of `causeway bench` becomes rows."""

FORMAT = "causeway-sweep"
ABOUT = ("Scaling measurements by scripts/scaling/sweep: every row of /runs is one process group of `causeway bench`; "
         "the other tables refer to it by the column run. The attribute commands has the "
         "commands of the sweeps. The attributes 'COLUMN unit' and 'COLUMN meaning' of a table "
         "explain its columns. NaN: not measured.")

# Column: kind (s text, i integer, f real), unit, meaning.
RUN = ("s", "", "key of the run: a hash of its configuration and repeat")
RUNS = {
    "run": RUN,
    "topic": ("s", "", "of causeway bench: step, strategies or operators"),
    "ranks": ("i", "", "number of ranks"),
    "threads": ("i", "", "OpenMP threads of a rank; 0: the program's choice"),
    "tokens": ("i", "tokens", "of the pack that the ranks share; 0: the built-in sizes"),
    "channels": ("i", "", "of an operator; 0: of the model, or the built-in sizes"),
    "model": ("s", "", "preset of the model; empty: an operator"),
    "operator": ("s", "", "the operator of topic strategies"),
    "layout": ("s", "", "which tokens a rank holds: contiguous or zigzag"),
    "strategy": ("s", "", "as --strategy was given"),
    "shard": ("s", "", "what each rank holds only its share of; empty: the program's default"),
    "device": ("s", "", "cpu or cuda"),
    "dtype": ("s", "", "type of activations and weights, as reported"),
    "options": ("s", "", "further options of causeway bench"),
    "repeat": ("i", "", "0 is the first"),
    "run_order": ("i", "", "position in the random order of the sweep that ran it"),
    "command": ("s", "", "that started the run, without the file for its JSON"),
    "started": ("s", "UTC", "when the run started"),
    "wall_s": ("f", "s", "the whole run, its start included"),
    "load": ("f", "", "load average of the last minute when the run started: other programs on the machine"),
    "elsewhere": ("f", "cores", "that other programs, or other guests of the host, used during the run: mean; NaN: not "
                                "known, as where the ranks are not on this machine"),
    "host": ("s", "", "name of the machine that started the ranks"),
    "cores": ("i", "", "cores that the process could use"),
    "processor": ("s", "", "model of the processor"),
    "accelerator": ("s", "", "models of the GPUs that the process saw"),
    "machine_memory": ("i", "bytes", "of the machine"),
    "program": ("s", "", "causeway --version: name and version"),
    "revision": ("s", "", "causeway --version: the commit that it was built from"),
    "exit": ("i", "", "exit code of the run; 124: it took longer than --timeout"),
    "error": ("s", "", "the last lines of a run that failed"),
}
STEPS = {
    "run": RUN,
    "data_parallel": ("i", "", "number of groups of ranks"),
    "strategies": ("s", "", "the strategies that were used"),
    "parameters": ("i", "", "of the model"),
    "packs": ("i", "", "of a step"),
    "documents": ("i", "", "of a step"),
    "document_tokens": ("i", "tokens", "of a step, without padding and unused places"),
    "fill": ("f", "", "part of the places of the packs that has tokens"),
    "step_ms": ("f", "ms", "median time of a step, of the slowest rank"),
    "fastest_ms": ("f", "ms", "fastest step"),
    "slowest_ms": ("f", "ms", "slowest step"),
    "tokens_per_s": ("f", "tokens/s", "tokens of documents over the median time"),
    "exposed_ms": ("f", "ms", "of a step, communication that ranks waited for: mean over ranks and steps"),
    "hidden_ms": ("f", "ms", "of a step, communication while ranks computed: mean over ranks and steps"),
    "bytes_sent": ("f", "bytes", "in a step, by all ranks together"),
    "memory_bytes": ("i", "bytes", "peak memory of tensors, of the rank with the most"),
    "mfu": ("f", "", "model FLOP/s over the rate of a large matrix product; GPU only"),
    "padded_tokens_per_s": ("f", "tokens/s", "the same documents padded to the longest (--bench --padded)"),
    "one_at_a_time_tokens_per_s": ("f", "tokens/s", "the same documents one a pass (--bench --one-at-a-time)"),
    "padded_places": ("i", "tokens", "tokens and padding of the padded passes"),
}
PARTS = {
    "run": RUN,
    "part": ("s", "", "operator and pass, exchange (waiting for other ranks), optimizer, rest"),
    "ms": ("f", "ms", "of a step, on the first rank; the parts add up to step_ms"),
}
STEP_TIMES = {
    "run": RUN,
    "step": ("i", "", "number of the measured step, from 0"),
    "ms": ("f", "ms", "time of the step, of the slowest rank"),
}
STRATEGIES = {
    "run": RUN,
    "strategy": ("s", "", "name of the strategy"),
    "variant": ("s", "", "option that the strategy was run with; empty: its own choice"),
    "documents": ("i", "", "of equal length, in the pack"),
    "forward_ms": ("f", "ms", "median, of the slowest rank"),
    "backward_ms": ("f", "ms", "median, of the slowest rank"),
    "estimate_ms": ("f", "ms", "what --strategy auto estimates for both passes"),
    "exposed_ms": ("f", "ms", "both passes, communication that the rank with the most waited for"),
    "hidden_ms": ("f", "ms", "both passes, communication while that rank computed"),
    "bytes_sent": ("i", "bytes", "both passes, by the rank that sends most"),
    "messages_sent": ("i", "", "both passes, by the rank that sends most"),
    "memory_bytes": ("i", "bytes", "peak memory of tensors, of the rank with the most"),
}
OPERATORS = {
    "run": RUN,
    "name": ("s", "", "operator and pass"),
    "shape": ("s", "", "of its first tensor"),
    "documents": ("i", "", "in the pack; 0: the operator has none"),
    "ms": ("f", "ms", "median"),
    "bytes": ("f", "bytes", "that must be read or written at least once"),
    "flops": ("f", "", "fewest floating-point operations of matrix products"),
    "exponentials": ("f", "", "fewest exponentials"),
    "part_of_ceiling": ("f", "", "least possible time under the ceilings over the measured one"),
    "ceiling": ("s", "", "the ceiling that binds: copy, gemm or exp2"),
}
CEILINGS = {
    "run": RUN,
    "gigabytes_per_second": ("f", "GB/s", "of a copy, read and written bytes"),
    "gigaflops": ("f", "GFLOP/s", "of a large matrix product"),
    "giga_exponentials_per_second": ("f", "G/s", "exponentials"),
}
TABLES = {
    "runs": ("one row a run: its configuration, when and where it ran, how it ended", RUNS),
    "steps": ("training steps (causeway bench step), one row a run", STEPS),
    "parts": ("how the time of a step divides", PARTS),
    "step_times": ("every measured step", STEP_TIMES),
    "strategies": ("an operator with each of its strategies (causeway bench strategies)", STRATEGIES),
    "operators": ("operators on one rank (causeway bench operators)", OPERATORS),
    "ceilings": ("the rates that the machine reaches when it only copies, multiplies or exponentiates", CEILINGS),
}


def step_rows(key, report):
    row = {name: report.get(name) for name in STEPS}
    row.update(run=key, document_tokens=report["tokens"])
    return {"steps": [row],
            "parts": [{"run": key, "part": name, "ms": ms} for name, ms in (report.get("parts") or {}).items()],
            "step_times": [{"run": key, "step": i, "ms": ms} for i, ms in enumerate(report["steps_ms"])]}


def milliseconds(found, name):
    """A time of bench strategies. Reports of before 1 December 2026 have exposed and hidden times in seconds."""
    return found[f"{name}_milliseconds"] if f"{name}_milliseconds" in found else found[f"{name}_s"] * 1e3


def strategy_rows(key, report):
    rows = []
    for found in report["results"]:
        row = {name: found.get(name) for name in STRATEGIES}
        row.update(run=key, forward_ms=found["forward_milliseconds"], backward_ms=found["backward_milliseconds"],
                   estimate_ms=found.get("estimated_milliseconds"), exposed_ms=milliseconds(found, "exposed"),
                   hidden_ms=milliseconds(found, "hidden"))
        rows.append(row)
    return {"strategies": rows}


def operator_rows(key, report):
    rows = []
    for found in report["results"]:
        if "milliseconds" in found:  # else there is no kernel for this device or type
            rows.append(dict({name: found.get(name) for name in OPERATORS}, run=key, ms=found["milliseconds"]))
    return {"operators": rows, "ceilings": [dict(report["ceilings"], run=key)]}


def rows_of(part):
    """{table: rows} of a finished run."""
    run, report = part["run"], part.get("report")
    row = {name: run.get(name) for name in RUNS}
    row["run"] = run["key"]
    found = {"runs": [row]}
    if report is not None:
        row["dtype"] = report["dtype"]
        found.update({"step": step_rows, "strategies": strategy_rows, "operators": operator_rows}[run["topic"]](
            run["key"], report))
    return found
