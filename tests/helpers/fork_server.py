"""A process that imports torch and msgd once, and forks for each command that the tests start.

Importing torch takes two seconds of the processor, a fork takes milliseconds. What is forked is a process like any
other: it has its own arguments, environment, working directory, standard streams and session, takes real signals, and
ends with a real exit code. Only the teardown of the modules is left out, as in `multiprocessing`: it would copy all
the memory that the fork shares. `ForkServer.start` returns what `subprocess.Popen` would. The tests of what happens
before and while msgd is imported, and at the very end, start fresh interpreters instead.

Run as a script, this file is the server. It forks a keeper for each request. The keeper forks the command, waits for it
and reports its exit code, so that the server need not know which commands still run.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

#: The keeper reports two numbers: the command's process id, and its exit code.
NUMBER = struct.Struct("i")


class ForkServer:
    """A server process; it ends when this process ends, or at `close`."""

    def __init__(self, environment):
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # The server shows the warnings of its imports as errors. One thread of BLAS: none would live in a fork.
                env=environment | {"PYTHONWARNINGS": "error", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def start(self, target, *arguments, env=None, cwd=None, start_new_session=False, ignore=()):
        """Start ``msgd`` (target "msgd"), the script at a path, or the code after "-c", as ``python -W …`` would.

        env: the environment; PYTHONWARNINGS=error in it makes warnings errors, but for those that `ignore` begins.
        """
        report, theirs = socket.socketpair()
        (out, out_end), (errors, errors_end) = os.pipe(), os.pipe()
        request = {
            "target": str(target),
            "arguments": [str(argument) for argument in arguments],
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()),
            "path": sys.path,
            "session": start_new_session,
            "ignore": list(ignore),
        }
        with theirs:
            socket.send_fds(self._channel, [b"x"], [theirs.fileno(), out_end, errors_end])
        os.close(out_end)
        os.close(errors_end)
        report.sendall(json.dumps(request).encode() + b"\n")
        return Forked([target, *arguments], report, out, errors)

    def close(self):
        """End the server."""
        self._channel.close()
        self._process.wait()


class Forked:
    """A forked command, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, args, report, out, errors):
        self.args, self.returncode = args, None
        self._report = report
        self.pid = self._number()
        self._read = [b"", b""]
        ends = enumerate((out, errors))
        self._readers = [threading.Thread(target=self._drain, args=pair, daemon=True) for pair in ends]
        for reader in self._readers:
            reader.start()

    def _number(self):
        content = self._report.recv(NUMBER.size)
        if not content:
            raise RuntimeError("the fork server is gone; standard error has its last words")
        return NUMBER.unpack(content)[0]

    def _drain(self, number, descriptor):
        with open(descriptor, "rb") as file:  # noqa: PTH123 - no path
            self._read[number] = file.read()

    def wait(self, timeout=None):
        """Wait for the end of the process; its exit code, negative for a signal."""
        if self.returncode is None:
            self._report.settimeout(timeout)
            try:
                self.returncode = self._number()
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            except BlockingIOError:  # a timeout of 0
                raise subprocess.TimeoutExpired(self.args, 0) from None
            self._report.close()
        return self.returncode

    def poll(self):
        """The exit code, or None while the process runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout=None):
        """Wait until the process, and all that share its streams, have ended: standard output and error."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for reader in self._readers:
            reader.join(None if deadline is None else max(deadline - time.monotonic(), 0))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(None if deadline is None else max(deadline - time.monotonic(), 1))
        return tuple(read.decode() for read in self._read)

    def send_signal(self, number):
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


def _import_all():
    import msgd

    for module in pkgutil.walk_packages(msgd.__path__, "msgd."):
        if not module.name.startswith("msgd.integrations"):  # whose frameworks no command needs
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the pages of all objects
    assert threading.active_count() == 1, "a thread would not live on in a fork, and what it locks would stay locked"
    tasks = Path("/proc/self/task")
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1, "a library has started a thread"


def _wait_for_keepers(*_):
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _next_command(channel):
    """Serve requests; returns in each forked command, with its request."""
    signal.signal(signal.SIGCHLD, _wait_for_keepers)
    while True:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 3)
        if not descriptors:
            os._exit(0)  # the tests have ended
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    channel.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection, out, errors = descriptors
    with socket.socket(fileno=connection) as report, report.makefile("r") as lines:
        request = json.loads(lines.readline())
        child = os.fork()
        if child:
            os.close(out)
            os.close(errors)
            report.sendall(NUMBER.pack(child))
            report.sendall(NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
            os._exit(0)
    for here, there in ((out, 1), (errors, 2)):
        os.dup2(here, there)
        os.close(here)
    return request


def _become(request):
    """Take on what a fresh interpreter is started with."""
    if request["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:] = request["path"]
    tempfile.tempdir = None  # TMPDIR may be another one
    if os.environ.get("PYTHONWARNINGS") != "error":
        warnings.filters.remove(("error", None, Warning, None, 0))
        sys.warnoptions.clear()
    for message in request["ignore"]:
        warnings.filterwarnings("ignore", message)
        sys.warnoptions.append(f"ignore:{message}")


def _run(request):
    target, arguments = request["target"], request["arguments"]
    if target == "msgd":
        import msgd.__main__

        sys.argv = [msgd.__main__.__file__, *arguments]
        msgd.__main__.main()
    elif target == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [target, *arguments]
        sys.path.insert(0, str(Path(target).parent))
        runpy.run_path(target, run_name="__main__")


def _end(error):
    """Leave as the interpreter does after an exception, or after None: the exit code, and what is to be run at exit."""
    if error is None or (isinstance(error, SystemExit) and error.code is None):
        code = 0
    elif isinstance(error, SystemExit) and isinstance(error.code, int):
        code = error.code & 0xFF
    elif isinstance(error, SystemExit):
        sys.stderr.write(f"{error.code}\n")
        code = 1
    else:
        traceback.print_exception(error)
        code = 1
    threading._shutdown()  # waits for the threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _main():
    _import_all()
    _become(request := _next_command(socket.socket(fileno=int(sys.argv[1]))))
    try:
        _run(request)
    except BaseException as error:
        _end(error)
    _end(None)


if __name__ == "__main__":
    _main()
