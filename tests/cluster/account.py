"""A fresh account of this machine, and its terminal, into which a test types as a user does."""

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import termios
import threading
import time
from pathlib import Path

from tests.cluster.slurm import PATIENCE_S

ROWS, COLUMNS = 200, 250


class Account:
    """A user with a home of their own; ``remove`` ends what still runs there and removes both.

    Parameters
    ----------
    name : of the account
    """

    def __init__(self, name):
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
        self.name, self.home = name, Path("~" + name).expanduser()

    def export(self, variables):
        """Let every login have some variables, as the modules of a site do."""
        lines = [f"export {key}='{value}'\n" for key, value in variables.items()]
        with (self.home / ".profile").open("a") as profile:
            profile.writelines(['export PATH="$HOME/bin:$PATH"\n', *lines])

    def own(self):
        """Give everything below the home to the account."""
        subprocess.run(["chown", "-R", f"{self.name}:", str(self.home)], check=True)

    def install(self, repository):
        """Put an environment with the packages of this one into a repository; nothing is copied or downloaded."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        candidates = [sys._base_executable, shutil.which(version, path="/usr/local/bin:/usr/bin")]
        python = next((path for path in candidates if path and self.can("test", "-x", path)), None)
        assert python, f"no {version} that the account {self.name} may execute"
        subprocess.run([python, "-m", "venv", "--without-pip", repository / ".venv"], check=True)
        site = repository / f".venv/lib/{version}/site-packages/launcher.pth"
        site.write_text(f"{repository}\n{sysconfig.get_path('purelib')}\n")
        for name, module in (("snakemake", "snakemake.cli"), ("phonoscreen", "phonoscreen.__main__")):
            program = repository / f".venv/bin/{name}"
            program.write_text(
                f"#!{repository}/.venv/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
            )
            program.chmod(0o755)
        (repository / ".venv/.complete").touch()  # what make looks for: it has nothing left to install

    def can(self, *command):
        """Return whether a command succeeds for the account."""
        return subprocess.run(["runuser", "-u", self.name, "--", *command], capture_output=True).returncode == 0

    def processes(self, words):
        """Return the numbers of the account's processes whose command line holds some words."""
        answer = subprocess.run(["pgrep", "-u", self.name, "-f", words], capture_output=True, text=True)
        return [int(number) for number in answer.stdout.split()]

    def remove(self):
        """End the processes of the account and remove it with its home."""
        while left := self.processes("."):
            for number in left:
                os.kill(number, signal.SIGKILL)
            time.sleep(0.3)
        subprocess.run(["userdel", "--force", "--remove", self.name], capture_output=True)


class Terminal:
    """A login of an account.

    Parameters
    ----------
    account : ``Account``
    """

    def __init__(self, account):
        self.text, self._count, self._mark = "", 0, 0
        self.process, self._descriptor = pty.fork()
        if self.process == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, where these tests run under it, has it ignored
            os.environ["TERM"] = "xterm"
            os.execvp("su", ["su", "-", account.name])
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        threading.Thread(target=self._read, daemon=True).start()
        self.run("true")

    def _read(self):
        try:
            while data := os.read(self._descriptor, 65536):
                self.text += data.decode(errors="replace")
        except OSError:  # closed
            return

    def type(self, text):
        """Type something without waiting for what comes of it."""
        self._mark = len(self.text)
        os.write(self._descriptor, text.encode())

    def run(self, block, *, fails=False):
        """Type the lines of a block, wait until the last one has ended, and return what the screen showed."""
        self._count += 1
        start = len(self.text)
        self.type(f"{block}\n")
        self.type(f'echo "ended-$?-{self._count}"\n')
        status = self.wait_for(rf"ended-(\d+)-{self._count}\b", start)
        shown = self.text[start:]
        assert (status != "0") == fails, f"{block}\nended with {status}:\n{shown[-4000:]}"
        return shown

    def wait_for(self, pattern, start=None):
        """Wait until the screen has shown a pattern since something was typed, and return its last group."""
        end, start = time.monotonic() + PATIENCE_S, self._mark if start is None else start
        while not (found := re.search(pattern, self.text[start:])):
            assert time.monotonic() < end, f"waited for {pattern}:\n{self.text[-4000:]}"
            time.sleep(0.2)
        return found.groups()[-1] if found.groups() else found.group()

    def close(self):
        """Lose the login: the shell and what belongs to it get SIGHUP."""
        os.close(self._descriptor)
        os.waitpid(self.process, 0)
