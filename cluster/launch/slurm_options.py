"""Long options of sbatch."""

_LINES = (
    "account array begin chdir clusters comment constraint cores-per-socket cpus-per-gpu",
    "cpus-per-task deadline dependency distribution error exclude exclusive export gpu-bind gpus",
    "gpus-per-node gpus-per-task gres hint hold input job-name kill-on-invalid-dep licenses",
    "mail-type mail-user mem mem-bind mem-per-cpu mem-per-gpu network nice no-kill no-requeue",
    "nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node open-mode output",
    "oversubscribe overcommit parsable partition prefer priority propagate qos quiet requeue",
    "reservation signal spread-job switches threads-per-core time time-min tmp use-min-nodes",
    "verbose wait wait-all-nodes wckey",
)
OPTIONS = {word for line in _LINES for word in line.split()}
