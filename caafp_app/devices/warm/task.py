"""One task, in the process that was forked for it: Flower's own steps, and a word to the parent.

So the parent can answer in its place when it crashes or hangs.
"""

import base64
import contextlib
import ctypes
import importlib
import importlib.util
import io
import json
import os
import signal
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from flwr.supercore.superexec.executor import ExecutionSpec

DEFAULT_SECONDS = 600.0
"""A task's time where the run does not say ``round-timeout``."""
_PR_SET_PDEATHSIG = 1
_MAX_FILES = 10_000
SHARE = 0.9
"""Of ``round-timeout``: the error reply has to arrive before the server stops waiting."""


def run_task(spec: ExecutionSpec, tell: int, memory_mb: float | None, same_app: str) -> int:
    """Run one task to its end and return the exit status of its process.

    Lines of JSON for the parent go to the file descriptor `tell`. The task may take `memory_mb` MB
    on top of what it was forked with. `same_app` is the hash of an app known to be what is imported
    here.
    """
    from flwr.supercore.exit import exit_handler
    from flwr.supercore.tls import validate_and_resolve_root_certificates

    # What the parent does at its end is not for the child to do.
    exit_handler.registered_exit_handlers.clear()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    end_with_parent()
    _die_first()
    if memory_mb is not None:
        _bound_memory(memory_mb)
    flower: Any = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    pull, push = flower.pull_task_input, flower.push_message

    def told_pull(client: Any) -> Any:
        message, context, run, fab = pull(client)
        envelope = flower.remove_content_from_message(message)
        packed = flower.message_to_proto(envelope).SerializeToString()
        seconds = _seconds(context.run_config)
        # Only this fork drops other code: the parent, and so the next fork, has it still.
        same = fab.hash_str == same_app or forget_other_code(fab.content)
        _say(
            tell,
            message=base64.b64encode(packed).decode(),
            node=context.node_id,
            run=context.run_id,
            seconds=seconds,
            app=fab.hash_str if same else None,
        )
        return message, context, run, fab

    def told_push(client: Any, message: Any, context: Any) -> None:
        push(client, message, context)
        _say(tell, answered=True)

    flower.pull_task_input, flower.push_message = told_pull, told_push
    try:
        flower.run_clientapp(
            runtime_api_address=spec.runtime_api_address,
            token=spec.token,
            insecure=spec.insecure,
            certificates=validate_and_resolve_root_certificates(
                spec.root_certificates_path, spec.insecure
            ),
            parent_pid=spec.parent_pid,
            runtime_dependency_install=False,
        )
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def forget_other_code(fab: bytes) -> bool:
    """Drop the imported packages of which the app brings other code; it then imports its own.

    `fab` is the app as Flower sends it, a zip file. Returns whether nothing was dropped.
    """
    same = True
    with zipfile.ZipFile(io.BytesIO(fab)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")][:_MAX_FILES]
        for package in {PurePosixPath(name).parts[0].removesuffix(".py") for name in names}:
            if package in sys.modules and not _is_same(archive, names, package):
                same = False
                for name in [n for n in sys.modules if n.partition(".")[0] == package]:
                    del sys.modules[name]
    return same


def _is_same(archive: zipfile.ZipFile, names: list[str], package: str) -> bool:
    """Compare the app's files of a package with those that it was imported from."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return False
    folder = Path(spec.origin).parent
    for name in names:
        parts = PurePosixPath(name).parts
        if parts[0] != package:
            continue
        here = folder.joinpath(*parts[1:])
        if not here.is_file() or here.read_bytes() != archive.read(name):
            return False
    return True


def _seconds(run_config: Any) -> float:
    told = run_config.get("round-timeout")
    return SHARE * (float(told) if isinstance(told, int | float) and told > 0 else DEFAULT_SECONDS)


def _say(tell: int, **words: object) -> None:
    with contextlib.suppress(OSError):  # a parent that is gone needs no word
        os.write(tell, json.dumps(words).encode() + b"\n")


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends. Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _die_first() -> None:
    """Where memory runs out, let the kernel end this process and not the device."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _bound_memory(memory_mb: float) -> None:
    import resource

    with contextlib.suppress(OSError, ValueError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        had = int(status.partition("VmData:")[2].split()[0]) * 1024
        most = had + int(memory_mb * 1e6)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
