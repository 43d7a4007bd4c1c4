"""Clocks that jump by years while a study runs, forwards and backwards."""

import shutil
import subprocess
import time
from pathlib import Path

from tests.chaos import checks, processes
from tests.chaos.bench import Bench
from tests.chaos.outcome import Scenario, Unavailable

# The wall clock of every process that loads it is off by the seconds that a file says.
_SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long offset(void) {
    char text[32] = {0};
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return 0;
    long got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, t);
    if (!code && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += offset();
    return code;
}
int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    int code = clock_gettime(CLOCK_REALTIME, &now);
    if (!code) { t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000; }
    return code;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""
YEAR = 365 * 86400


def clock_jumps(bench: Bench) -> None:
    """Jumps of up to ten years, at random moments of a study whose driver is killed once."""
    library = _library(bench.folder)
    study = bench.study(
        seeds=list(range(4)), training={"epochs": 60},
        arms=[{"model": "gamenet", "config": {"dim": 8}}],
    )  # fmt: skip
    expected = bench.undisturbed(study)
    clock, out, number = bench.folder / "clock", bench.folder / "out", 0
    env = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(clock)}
    clock.write_text("0")
    while bench.outcome.tries < bench.tries:
        number += 1
        out = bench.folder / f"out{number}"
        run = bench.driver(study, out, "--cpus", 2, env=env)
        killed = False
        while run.running and bench.outcome.tries < bench.tries:
            if run.wait(bench.rng.uniform(2, 6)) is not None:
                break
            years = bench.rng.uniform(-10, 10)
            aside = clock.with_suffix(".new")
            aside.write_text(str(int(years * YEAR)))
            aside.replace(clock)
            bench.tried(f"the clock jumps to {years:+.1f} years")
            if not killed and len(checks.finished(out)) >= 5:
                run.kill()
                killed = True
                run = bench.driver(study, out, "--cpus", 2, env=env)
        code = run.wait(300)
        bench.outcome.promise(code == 0, f"exit code {code}: {run.text()[-1500:]}")
        clock.write_text("0")
        checks.complete(out, expected, bench.outcome, f"study {number}")
        checks.same_tables(out, expected, bench.outcome, f"study {number}")
        bench.outcome.leaked += processes.staying(run.mark, 60)
        bench.outcome.seconds.append(time.monotonic() - run.began)


def _library(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unavailable("needs a C compiler, for a library that shifts the clock")
    source = folder / "clock.c"
    source.write_text(_SOURCE)
    made = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"]
    found = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if found.returncode:
        raise Unavailable(f"the compiler refuses: {found.stderr[:200]}")
    return made


SCENARIOS = [
    Scenario(
        "clock-jumps",
        "clock jumps, by years, while trials run",
        "one result for each key, to the last bit",
        clock_jumps,
        short=2,
    )
]
