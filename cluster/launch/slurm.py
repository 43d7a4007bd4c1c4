"""Slurm: whole nodes through `ray symmetric-run`, or parts of nodes with ports of their own."""

from importlib.resources import files

from cluster.launch.spec import ClusterSpec

FILE = "medsweep.sbatch"


def script(spec: ClusterSpec, ray_version: str) -> str:
    """Returns the batch script."""
    assert spec.token is not None  # noqa: S101  `load_spec` asks for it
    # The shell expands no ~ between quotes.
    token = spec.token.replace("~/", "$HOME/", 1) if spec.token.startswith("~/") else spec.token
    gpus = f" --gpus-per-node={spec.gpus}" if spec.gpus else ""
    kind = "exclusive" if spec.exclusive else "shared"
    return fill(
        f"{kind}.sbatch",
        NAME=spec.name,
        FILE=FILE,
        NODES=str(spec.nodes),
        CPUS=str(spec.cpus),
        GPUS=str(spec.gpus),
        STUDY=spec.study,
        OUT=spec.results,
        RESTARTS=str(spec.restarts),
        RAY=ray_version,
        ENVIRONMENT=str(spec.environment),
        TOKEN_FOLDER=token.rpartition("/")[0] or "/",
        TOKEN=token,
        SBATCH="\n".join(_directives(spec)),
        SRUN=gpus,
    )


def fill(template: str, **values: str) -> str:
    """Returns a template with its `@NAME@` replaced."""
    text = files("cluster.launch").joinpath("templates", template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _directives(spec: ClusterSpec) -> list[str]:
    minutes = max(1, round((spec.hours or 0) * 60))
    found = {
        "gpus-per-node": spec.gpus or None,
        "mem": f"{spec.memory}G" if spec.memory else None,
        "time": f"{minutes // 60:02d}:{minutes % 60:02d}:00",
        "partition": spec.partition,
        "account": spec.account,
    }
    return [f"#SBATCH --{name}={value}" for name, value in found.items() if value is not None]
