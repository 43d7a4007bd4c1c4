"""Prints what each benchmark notes beside its times."""


def pytest_terminal_summary(terminalreporter):
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    for bench in getattr(session, "benchmarks", []):
        if bench.extra_info:
            notes = ", ".join(f"{k} {v:.3g}" for k, v in bench.extra_info.items())
            best = bench.stats.min if bench.stats else float("nan")
            terminalreporter.write_line(f"{bench.name}: best {best:.3f} s, {notes}")
