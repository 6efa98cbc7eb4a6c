"""The connection to a Ray cluster: that of `RAY_ADDRESS`, else a local one that ends with the job."""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from ossnet.distributed._ray import ended_processes, loopback_only
from ossnet.distributed.cluster.sockets import short_folder
from ossnet.errors import UserError, first_line
from ossnet.output.atomic_write import disk_fault
from ossnet.output.interruption import keep_raising
from ossnet.output.progress import progress

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the driver of a submitted job

_DEFAULTS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s is paid at every report
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in workers
    "RAY_AIR_NEW_OUTPUT": "0",  # the other one prints tables at any verbosity
    "RAY_USAGE_STATS_ENABLED": "0",
    "MALLOC_ARENA_MAX": "1",  # or the threads of each trial keep the memory that they have freed
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow has it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # or an interrupted study would end as if it were done
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # not every epoch validates
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # we print one line for a failed trial; its file has the rest
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_EMBEDDED = {
    "RAY_worker_niceness": "0",  # at Ray's own 15, whatever else runs here takes nearly all CPUs from a run
    "RAY_TRAIN_METRICS_ENABLED": "0",  # of use to clusters of several nodes only; costs seconds a run
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
logger = logging.getLogger(__name__)

_ATTEMPTS = 3
_WATCH_S = 0.5  # between two looks at Ray's processes
_TIMEOUT_S = 10
_ANSWER_S = 40.0  # of a cluster; Ray itself would try for minutes
_NOISY = ("ray", "ray.train", "ray.tune", "ray.data")


@contextmanager
def connect(*, cpus: int | None = None) -> Iterator[None]:
    """Attach to the cluster of `RAY_ADDRESS` (which a submitted job has), or start a local one.

    What was started here is shut down on leaving; a cluster that was there before stays. Workers run the
    driver's version of this package: a submitted job ships its working directory, an embedded cluster shares
    the driver's environment, and to any other cluster the package itself is sent.

    Args:
        cpus: what a local cluster has; by default all.

    Raises:
        UserError: no cluster answers at `RAY_ADDRESS`, or no folder is fit for Ray's sockets.
    """
    address = os.environ.get("RAY_ADDRESS")
    for name, value in (_DEFAULTS if address else _DEFAULTS | _EMBEDDED).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for handler in logging.getLogger("ray").handlers:
        handler.addFilter(_without_traceback)
    with ExitStack() as stack:
        _protect_token()
        if address:
            _attach(address)
        else:
            _start(cpus, stack.enter_context(short_folder()))
        _protect_token()  # Ray makes one, readable for all, where there is none
        keep_raising()  # Ray has its own handler of SIGTERM
        stack.callback(ray.shutdown)
        if not address:
            stack.enter_context(_ends_with_ray())
        yield


def _without_traceback(record: logging.LogRecord) -> bool:
    """Have Ray say in a line what it goes on after, as that storage was away; whether it says it at all.

    It does not of a disk that takes nothing more: the job ends with a line of its own.
    """
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return True
    what = record.getMessage().strip().splitlines()[0].rstrip(":")
    record.msg, record.args = f"{what}: {first_line(error)}", None
    record.exc_info = record.exc_text = None
    return disk_fault(error) is None


def submitted() -> bool:
    """Whether this process drives a submitted job, which runs in a copy of the working directory."""
    return SUBMITTED in os.environ


def output_root() -> Path:
    """The folder of relative outputs: here; for a submitted job `~/ossnet`, as Ray deletes its folder."""
    return Path.home() / "ossnet" if submitted() else Path.cwd()


def _protect_token() -> None:
    """Keep the token of Ray's clusters, by which anyone may run code on them, from other users."""
    token = Path.home() / ".ray" / "auth_token"
    try:
        token.parent.mkdir(mode=0o700, exist_ok=True)
        if token.exists() and token.stat().st_mode & 0o077:
            token.chmod(0o600)
    except OSError as error:  # as where there is no home, or it is another user's
        logger.debug(f"{token}: {error}")


def _start(cpus: int | None, folder: Path) -> None:
    """Start a local cluster; Ray gives itself 30 s, which a busy machine may need more than once."""
    import ray

    for attempt in range(_ATTEMPTS):
        try:
            with progress("starting Ray"), loopback_only():
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    _temp_dir=str(folder),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except Exception as error:
            ray.shutdown()
            if attempt + 1 < _ATTEMPTS:
                continue
            if "timed out" in str(error):
                raise _too_busy(error) from error
            raise
        else:
            return


@contextmanager
def _ends_with_ray() -> Iterator[None]:
    """Have the job end in a line as soon as its local cluster has: Ray's own library would abort it later."""
    left = threading.Event()
    thread = threading.Thread(target=_watch_ray, args=(left,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def _watch_ray(left: threading.Event) -> None:
    while not left.wait(_WATCH_S):
        for name, status in ended_processes().items():
            error = UserError(
                "Ray",
                expected="its processes to run as long as the job",
                found=f"{name} ended (exit status {status})",
                remedy="see that memory and disk suffice, and go on by --resume",
            )
            print(f"error: {error}", file=sys.stderr, flush=True)
            _kill_children()
            os._exit(2)  # nothing can be written through Ray any more: what is open is closed at --resume


def _kill_children() -> None:
    """End what Ray started at once: its agents would try for a minute to tell of it."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()


def _too_busy(error: Exception) -> UserError:
    return UserError(
        "Ray",
        expected=f"to start on this machine, at {_ATTEMPTS} tries of half a minute",
        found=str(error).splitlines()[0],
        remedy="end other programs that keep its processors busy, and try again",
    )


def _attach(address: str) -> None:
    import ray

    arenas = "MALLOC_ARENA_MAX"
    package = {"py_modules": [str(files("ossnet"))], "env_vars": {arenas: os.environ[arenas]}}
    _probe(address)
    if address != "local" and not submitted():
        _wait_for_answer(address)
    try:
        with progress(f"connecting to {address}"):
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=None if submitted() else package,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(address, error) from error


def _probe(address: str) -> None:
    """Try an address HOST:PORT before Ray does, which would take minutes to give up."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _wait_for_answer(address: str, timeout_s: float = _ANSWER_S) -> None:
    """Attach in another process first: Ray tries an address of a cluster that is gone for minutes."""
    script = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)"
    command = [sys.executable, "-c", script, address]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
    except subprocess.TimeoutExpired as error:
        raise _unreachable(address, TimeoutError(f"no answer within {timeout_s:.0f} s")) from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise _unreachable(address, ConnectionError(lines[-1].strip())) from error


def _unreachable(address: str, error: Exception) -> UserError:
    return UserError(
        f"RAY_ADDRESS {address}",
        expected="a Ray cluster",
        found=f"none to be reached there ({str(error).splitlines()[0]})",
        remedy="give HOST:6379, and where the cluster requires a token set RAY_AUTH_MODE=token",
    )
