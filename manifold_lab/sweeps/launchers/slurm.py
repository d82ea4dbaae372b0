"""Launcher that submits runs to Slurm: arrays of at most the size that it takes, through submitit."""

import dataclasses
import shlex
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from manifold_lab.core.errors import InputError
from manifold_lab.sweeps import run_lock, runner, slurm, store, submissions, worker
from manifold_lab.sweeps.runner import Work
from manifold_lab.sweeps.store import ABSENT, DAMAGED, FAILED, QUEUED, RUNNING, Cell
from manifold_lab.sweeps.submissions import Submission

LOOK_EVERY = 5.0
"""Seconds between two looks at the queue by who waits for it."""
RANK = "export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID"
STEP = f"trap '' USR2; {RANK}; exec \"$@\""
"""A process of a job, deaf to Slurm's notice until it can act on it."""
SCRIPT = """export {variable}={name}/$SLURM_ARRAY_TASK_ID
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
began={began}-$SLURM_ARRAY_TASK_ID
for start in $(seq {starts}); do
  rm -f "$began"
  srun --unbuffered --kill-on-bad-exit=1 {options} bash -c {step} cell {command}
  status=$?
  # 0 and {ended}: all cells have ended; 2: bad input; 130, 140, 143: told to stop; else a process was killed at a cell
  case $status in 0|2|{ended}|130|140|143) break ;; esac
  [ -e "$began" ] || break
done
rm -f "$began"
exit $status"""


def launch(work: Work, cells: Sequence[Cell]) -> Generator[Cell, None, None]:
    """Hand over what is neither done nor queued, and say so; where told to wait, say how each cell ended too.

    Raises:
        InputError: where submitit or Slurm is missing or refuses; what was handed over before stays in the queue.
    """
    runs = work.runs
    slurm.defaults()  # which `options` passes over where it cannot be read
    if not cells and not (runs / submissions.FOLDER).exists():
        return
    with submissions.only_submitter(runs):
        submissions.close_ended(runs)
        now = submissions.view(runs, [store.state(cell.spec, cell.folder) for cell in cells])
        wanted = [cell for cell in now if cell.state in (ABSENT, FAILED, DAMAGED)]
        tasks = [tuple((cell.key, cell.attempts) for cell in packed)
                 for packed in runner.batched(wanted, work.cells_per_job)]  # fmt: skip
        for array in runner.batched(tasks, slurm.largest_array()) if tasks else ():
            submit(work, submissions.announce(runs, work.commands().name, array, work.slurm.requeues))
    yield from (dataclasses.replace(cell, state=QUEUED, note="") for cell in wanted)
    if work.wait:
        yield from _ends(runs, now)


def submit(work: Work, submission: Submission) -> None:
    """Hand over one array."""
    try:
        from submitit import SlurmExecutor  # noqa: PLC0415 - an extra
        from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: PLC0415
    except ImportError:
        raise InputError(
            "launcher: slurm needs submitit, which is not installed; pip install 'manifold_lab[slurm]'"
        ) from None
    try:
        executor = SlurmExecutor(submission.folder.resolve())
        executor.update_parameters(**parameters(work, submission))
        # A job that submitit starts waits for a pickle that is only named after its number is known: a driver that is
        # killed before would take the job along. So the command is ours, and finds its cells by the submission's name.
        executor.parameters["map_count"] = len(submission.tasks)
        executor._submit_command(script(work, submission))
    except (FailedJobError, FailedSubmissionError, RuntimeError, OSError) as error:
        told = " ".join(str(error).split())[-300:]
        raise InputError(f"slurm: the jobs were not taken ({told}); what was handed over before stays queued") from None


def parameters(work: Work, submission: Submission) -> dict[str, Any]:
    """What submitit is told: the options that are set, in its words."""
    asked, here = work.slurm, -(-work.processes // work.slurm.nodes)
    if here * asked.nodes != work.processes:
        raise InputError(f"slurm.nodes: {asked.nodes} is not allowed; it must divide the {work.processes} processes")
    chosen = {name: getattr(asked, name) or None for name in ("partition", "account", "qos", "time")}
    options: dict[str, Any] = {
        name: value or True for name, _, value in (words.partition("=") for words in asked.extra)
    }
    return {
        **chosen,
        "job_name": submission.name,
        "nodes": asked.nodes,
        "ntasks_per_node": here,
        "cpus_per_task": asked.cpus or None,
        "gpus_per_node": asked.gpus * here or None,
        "array_parallelism": asked.parallel or len(submission.tasks),
        "signal_delay_s": asked.notice,
        "setup": list(asked.setup) or None,
        "stderr_to_stdout": True,
        "use_srun": False,
        "wckey": None,
        "additional_parameters": {"requeue": True, "output": _log_files(submission)}
        | ({"mem": asked.mem} if asked.mem else {})
        | options,
    }


def _log_files(submission: Submission) -> str:
    """Where the jobs write, as submitit names it; a % of the path is none of Slurm's own patterns.

    Raises:
        InputError: for a path that would end a line of the job's script.
    """
    folder = str(submission.folder.resolve())
    slurm.plain_text("runs", folder)
    return f"{folder.replace('%', '%%')}/%A_%a_0_log.out"


def script(work: Work, submission: Submission) -> str:
    """The work of a job in shell: its cells, started again as long as one of them kills its process."""
    command = work.commands().cell("--job")
    longest = max(len(task) for task in submission.tasks)
    return SCRIPT.format(
        variable=run_lock.JOB,
        began=shlex.quote(str(submission.folder.resolve() / submissions.BEGAN)),
        ended=worker.SOME_FAILED,
        name=shlex.quote(submission.name),
        starts=longest + 1,
        options=f"--cpus-per-task={work.slurm.cpus}" if work.slurm.cpus else "",
        step=shlex.quote(STEP),
        command=shlex.join(command),
    )


def _ends(runs: Path, cells: Sequence[Cell]) -> Generator[Cell, None, None]:
    """How cells end, as soon as they do."""
    waiting = {cell.key: cell for cell in cells if cell.state in (ABSENT, FAILED, DAMAGED, QUEUED, RUNNING)}
    while waiting:
        time.sleep(LOOK_EVERY)
        looked = [store.state(cell.spec, cell.folder) for cell in waiting.values()]
        ended = [cell for cell in submissions.view(runs, looked) if cell.state not in (QUEUED, RUNNING)]
        for cell in ended:
            del waiting[cell.key]
        yield from ended
