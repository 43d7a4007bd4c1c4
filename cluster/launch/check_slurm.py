"""Slurm batch scripts: the syntax, and whether a study on them loses nothing."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.launch.findings import Finding, shorten
from cluster.launch.slurm_options import OPTIONS
from cluster.launch.spec import NODE_LOCAL
from cluster.launch.tools import bash_syntax, shellcheck

LEAST_NOTICE = 60  # seconds for checkpoints
_NEEDED = {
    "nodes": "Say how many nodes.",
    "time": "Say how long; without it the partition's limit holds.",
    "requeue": "Add #SBATCH --requeue, or an interrupted job is lost.",
    "signal": "Add #SBATCH --signal=B:USR1@120.",
    "open-mode": "Add #SBATCH --open-mode=append, or a requeue empties the log.",
}
_PORT = re.compile(r"--((?:[a-z]+-)*port)[= ]\"?(\$\(\([^)]*\)\)|\$\{?\w+\}?|\d+)")


@dataclass(frozen=True)
class _Line:
    number: int
    text: str


def check(file: str, text: str, ray_version: str) -> list[Finding]:
    """Returns what is wrong with a batch script."""
    broken = bash_syntax(file, text)
    if broken:
        return broken
    return [*shellcheck(file, text), *_Rules(file, text, ray_version).all()]


class _Rules:
    def __init__(self, file: str, text: str, ray_version: str) -> None:
        self.file, self.ray = file, ray_version
        every = [_Line(n, line) for n, line in enumerate(text.splitlines(), 1)]
        self.directives = [line for line in every if line.text.startswith("#SBATCH")]
        code = [line for line in every if line.text.strip() and not _comment(line.text)]
        self.code = [_Line(line.number, re.sub(r"\s#\s.*$", "", line.text)) for line in code]
        self.first = self.code[0].number if self.code else 1
        self.options: dict[str, tuple[int, str]] = {}
        for line in self.directives:
            name, _, value = line.text.removeprefix("#SBATCH").strip().partition("=")
            self.options[name.removeprefix("--")] = (line.number, value.split(" #")[0].strip())

    def all(self) -> Iterator[Finding]:
        """Yields the breaches of every rule."""
        yield from self._directives()
        yield from self._values()
        yield from self._shell()
        yield from self._token()
        yield from self._places()
        yield from self._restart()
        yield from self._start()

    def _finding(self, line: int, rule: str, value: object, remedy: str) -> Finding:
        return Finding(self.file, line, rule, shorten(value), remedy)

    def _where(self, pattern: str) -> _Line | None:
        return next((line for line in self.code if re.search(pattern, line.text)), None)

    def _value(self, name: str) -> tuple[int, str] | None:
        line = self._where(rf"^\s*(?:export )?{name}=")
        if line is None:
            return None
        value = re.split(rf"\b{name}=", line.text, maxsplit=1)[1].split("#")[0]
        return line.number, value.strip().strip("\"'")

    def _directives(self) -> Iterator[Finding]:
        last = self.directives[-1].number if self.directives else 1
        meant = set()
        for name, (line, _) in self.options.items():
            if name not in OPTIONS and len(name) > 2:
                near = difflib.get_close_matches(name, OPTIONS, n=1)
                meant.update(near)
                hint = f"Did you mean --{near[0]}?" if near else "See man sbatch."
                yield self._finding(line, "sbatch-option", f"no option --{name}", hint)
        for line_ in self.directives:
            if line_.number > self.first:
                yield self._finding(
                    line_.number,
                    "sbatch-option",
                    line_.text,
                    "Slurm reads no #SBATCH after the first command.",
                )
        for name, remedy in _NEEDED.items():
            if name not in self.options and name not in meant:
                yield self._finding(last, f"sbatch-{name}", f"no --{name}", remedy)
        line, value = self.options.get("signal", (last, "B:USR1@120"))
        match = re.fullmatch(r"B:(?:SIG)?(USR1|TERM)@(\d+)", value)
        if match is None or int(match[2]) < LEAST_NOTICE:
            yield self._finding(
                line,
                "sbatch-signal",
                value or "nothing",
                f"Use B:USR1@N with N of {LEAST_NOTICE} or more.",
            )
        line, value = self.options.get("open-mode", (last, "append"))
        if value != "append":
            yield self._finding(line, "sbatch-open-mode", value, "Use append.")

    def _values(self) -> Iterator[Finding]:
        for variable, option in (
            ("NODES", "nodes"),
            ("CPUS", "cpus-per-task"),
            ("GPUS", "gpus-per-node"),
        ):
            said, (_, asked) = self._value(variable), self.options.get(option, (0, "0"))
            if said and said[1] != asked:
                yield self._finding(
                    said[0],
                    "same-numbers",
                    f"{variable} is {said[1]}",
                    f"Slurm is asked for {asked} (--{option}).",
                )
        version = self._value("RAY_VERSION")
        if version is None:
            yield self._finding(
                self.first,
                "ray-version",
                "no RAY_VERSION is asked for",
                f"Compare ray --version with RAY_VERSION={self.ray}.",
            )
        elif version[1] != self.ray:
            yield self._finding(
                version[0], "ray-version", version[1], f"The locked Ray is {self.ray}."
            )

    def _shell(self) -> Iterator[Finding]:
        line = self._where(r"^set -")
        if line is None or line.number != self.first:
            yield self._finding(
                self.first,
                "strict-shell",
                "errors are passed over",
                "Begin with set -euo pipefail.",
            )
        elif not re.match(r"set -(?=\w*e)(?=\w*u)\w*o pipefail", line.text):
            yield self._finding(line.number, "strict-shell", line.text, "Use set -euo pipefail.")

    def _token(self) -> Iterator[Finding]:
        mode = self._value("RAY_AUTH_MODE")
        if mode is None or mode[1] != "token":
            yield self._finding(
                mode[0] if mode else self.first,
                "token-auth",
                f"RAY_AUTH_MODE is {mode[1] if mode else 'not set'}",
                "Export RAY_AUTH_MODE=token.",
            )
        path = self._value("RAY_AUTH_TOKEN_PATH")
        if path is None or not path[1]:
            yield self._finding(
                path[0] if path else self.first,
                "token-auth",
                "RAY_AUTH_TOKEN_PATH is not set",
                "Export the path of a file with mode 0600.",
            )
        elif self._where(r"stat .*RAY_AUTH_TOKEN_PATH.*600") is None:
            yield self._finding(
                path[0],
                "token-auth",
                "the mode of the token's file is not looked at",
                "Refuse a file that others can read (mode other than 600).",
            )
        literal = self._where(r"\bRAY_AUTH_TOKEN=")
        if literal:
            yield self._finding(
                literal.number, "no-secrets", "RAY_AUTH_TOKEN is set", "Use RAY_AUTH_TOKEN_PATH."
            )

    def _places(self) -> Iterator[Finding]:
        for line in self.code:
            if re.search(r"(?<![\d.])0\.0\.0\.0(?![\d.])|host[= ]::", line.text):
                yield self._finding(line.number, "exposed", line.text, "Bind to 127.0.0.1.")
            out = re.search(r"(?:\bOUT=|--out[= ])[\"']?(\$\{?TMPDIR|/[^\s\"']*)", line.text)
            if out and (out[1].startswith("$") or NODE_LOCAL.match(out[1])):
                yield self._finding(
                    line.number,
                    "shared-storage",
                    out[1],
                    "Results need a folder that every node shares.",
                )

    def _restart(self) -> Iterator[Finding]:
        """The notice reaches the driver; its code, left in a file, is the proof of the end."""
        last = self.code[-1].number if self.code else 1
        for pattern, rule, remedy in (
            (r"^\s*trap .*\bUSR1\b", "notice", "Trap USR1 and pass it on."),
            (
                r"kill -(s )?(SIG)?TERM .*driver",
                "notice",
                "Send SIGTERM to the driver alone; Tune takes USR1 for itself.",
            ),
            (r"scontrol requeue", "requeue-on-75", "On code 75, call scontrol requeue."),
            (r"==? ?75\b|-eq 75\b", "requeue-on-75", "Requeue on code 75 alone."),
        ):
            if self._where(pattern) is None:
                yield self._finding(last, rule, "missing", remedy)
        written = self._where(r"echo \"?\$\{?\w+\}?\"? > \"?[^\"]*\.code\b")
        if written is None:
            line = self._where(r"medsweep run") or self.code[-1]
            yield self._finding(
                line.number,
                "guarded-end",
                "the driver leaves no proof of its end",
                "Write its exit code to a file, as ray symmetric-run exits with 0 "
                "when Ray does not start.",
            )
            return
        match = re.search(r"> \"?([^\"\s]+)\"?", written.text)
        place = match[1] if match else ""
        asked = self._where(r"\[\[? ?-[fs] \"?[^\"]*\.code\b")
        if asked is None or place not in asked.text:
            line_ = asked or written
            yield self._finding(
                line_.number,
                "guarded-end",
                line_.text.strip(),
                f"Ask at the end whether {place} is there.",
            )
        code = self._where(r"=\"?\$\((cat|<) ?\"?[^)]*\.code")
        if code is None or place not in code.text or not re.search(r"exit ", self.code[-1].text):
            line_ = code or self.code[-1]
            yield self._finding(
                line_.number, "guarded-end", line_.text.strip(), f"Exit with the code in {place}."
            )

    def _start(self) -> Iterator[Finding]:
        symmetric = self._where(r"ray symmetric-run")
        if symmetric and "exclusive" not in self.options:
            yield self._finding(
                symmetric.number,
                "exclusive",
                "symmetric-run on shared nodes",
                "It stops every Ray of the user: add #SBATCH --exclusive, or use "
                "ray start with ports of the job's own.",
            )
        start = self._where(r"\bray start\b")
        if symmetric is None and start is None:
            yield self._finding(self.first, "start", "Ray is never started", "Start it.")
        if symmetric or "exclusive" in self.options or start is None:
            return
        for pattern, value, remedy in (
            (
                r"=\"?\$\(\(.*SLURM_JOB_ID",
                "ports are not the job's own",
                "Derive them from $SLURM_JOB_ID.",
            ),
            (r"--temp-dir", "no --temp-dir", "Give every node a folder of the job's own."),
        ):
            if self._where(pattern) is None:
                yield self._finding(start.number, "shared-nodes", value, remedy)
        for line in self.code:
            if re.search(r"\bray stop\b|\bkillall\b|\bpkill\b(?!.*\$)", line.text):
                yield self._finding(
                    line.number,
                    "shared-nodes",
                    line.text.strip(),
                    "It ends processes of other jobs; end this job's own.",
                )
        yield from self._ports()

    def _ports(self) -> Iterator[Finding]:
        seen: dict[str, str] = {}
        for line in self.code:
            for name, port in _PORT.findall(line.text):
                if port == "0":
                    continue  # any free one
                if seen.setdefault(port, name) != name:
                    yield self._finding(
                        line.number,
                        "ports",
                        f"--{name} is also --{seen[port]}",
                        "Every service needs a port of its own.",
                    )
                if port.isdigit():
                    yield self._finding(
                        line.number,
                        "shared-nodes",
                        f"--{name} is always {port}",
                        "Derive it from $SLURM_JOB_ID.",
                    )


def _comment(text: str) -> bool:
    return text.lstrip().startswith("#")
