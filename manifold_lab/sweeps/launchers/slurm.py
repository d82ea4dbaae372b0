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
from manifold_lab.sweeps.store import ABSENT, DAMAGED, FAILED, QUEUED, RUNNING, Run
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
  srun --unbuffered --kill-on-bad-exit=1 {options} bash -c {step} run {command}
  status=$?
  # 0 and {ended}: all runs have ended; 2: bad input; 130, 140, 143: told to stop; else a process was killed at a run
  case $status in 0|2|{ended}|130|140|143) break ;; esac
  [ -e "$began" ] || break
done
rm -f "$began"
exit $status"""


def launch(work: Work, runs: Sequence[Run]) -> Generator[Run, None, None]:
    """Hand over what is neither done nor queued, and say so; where told to wait, say how each run ended too.

    Raises:
        InputError: where submitit or Slurm is missing or refuses; what was handed over before stays in the queue.
    """
    folder = work.folder
    slurm.defaults()  # which `options` passes over where it cannot be read
    if not runs and not (folder / submissions.FOLDER).exists():
        return
    with submissions.only_submitter(folder):
        submissions.close_ended(folder)
        now = submissions.view(folder, [store.state(run.spec, run.folder) for run in runs])
        wanted = [run for run in now if run.state in (ABSENT, FAILED, DAMAGED)]
        tasks = [tuple((run.key, run.attempts) for run in packed)
                 for packed in runner.batched(wanted, work.runs_per_job)]  # fmt: skip
        for array in runner.batched(tasks, slurm.largest_array()) if tasks else ():
            submit(work, submissions.announce(folder, work.commands().name, array, work.slurm.requeues))
    yield from (dataclasses.replace(run, state=QUEUED, note="") for run in wanted)
    if work.wait:
        yield from _ends(folder, now)


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
        # killed before would take the job along. So the command is ours, and finds its runs by the submission's name.
        executor.parameters["map_count"] = len(submission.tasks)
        executor._submit_command(script(work, submission))
    except (FailedJobError, FailedSubmissionError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[-300:]
        raise InputError(
            f"slurm: the jobs were not taken ({reason}); what was handed over before stays queued"
        ) from None


def parameters(work: Work, submission: Submission) -> dict[str, Any]:
    """What submitit is told: the options that are set, in its words."""
    asked, here = work.slurm, -(-work.processes // work.slurm.nodes)
    if here * asked.nodes != work.processes:
        raise InputError(f"slurm.nodes: {asked.nodes} is not allowed; it must divide the {work.processes} processes")
    chosen = {name: getattr(asked, name) or None for name in ("partition", "account", "qos", "time")}
    options: dict[str, Any] = {
        name: value or True for name, _, value in (option.partition("=") for option in asked.extra)
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
    """The work of a job in shell: its runs, started again as long as one of them kills its process."""
    command = work.commands().worker("--job")
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


def _ends(folder: Path, runs: Sequence[Run]) -> Generator[Run, None, None]:
    """How runs end, as soon as they do."""
    waiting = {run.key: run for run in runs if run.state in (ABSENT, FAILED, DAMAGED, QUEUED, RUNNING)}
    while waiting:
        time.sleep(LOOK_EVERY)
        looked = [store.state(run.spec, run.folder) for run in waiting.values()]
        ended = [run for run in submissions.view(folder, looked) if run.state not in (QUEUED, RUNNING)]
        for run in ended:
            del waiting[run.key]
        yield from ended
