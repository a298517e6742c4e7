"""The page for operators, typed word for word into the terminal of a fresh account on a real Slurm.

The study of the account asks Slurm every two seconds, not every twenty as the profile does: its jobs take seconds, and
some twenty of them follow each other.
"""

import os
import re
import signal

import pytest
import yaml
from snakemake.utils import update_config

from tests.cluster.account import Account, Terminal
from tests.cluster.fake_vasp import __file__ as FAKE
from tests.cluster.study import ClusterStudy
from tests.conftest import ROOT

PAGE = (ROOT / "docs/operations.md").read_text()
BLOCKS = [re.sub(r"(?m)^   ", "", text) for text in re.findall(r"(?ms)^ *```bash\n(.*?)\n *```", PAGE)]
SITE = re.search(r"(?ms)^ *```yaml\n(.*?)\n *```", PAGE).group(1)
typed = set()


def block(line):
    """The one block of the page that begins with a line."""
    (found,) = [text for text in BLOCKS if text.splitlines()[0] == line]
    typed.add(found)
    return found


@pytest.fixture
def study(slurm, first_folder):
    """The repository in the home of a fresh account, with a small study in its config.yaml."""
    account = Account("crystallographer")
    slurm.add_user(account.name)
    try:
        folder = account.home / "phonoscreen"
        study = ClusterStudy(folder, slurm, command="vasp_std", compiled=first_folder)
        study.account = account
        account.install(folder)
        (folder / "site.yaml").write_text("\n".join(line.strip() for line in SITE.splitlines()) + "\n")
        profile = folder / "profiles/slurm/config.yaml"
        asking = "seconds-between-status-checks: "
        assert f"{asking}20\n" in profile.read_text()
        profile.write_text(profile.read_text().replace(f"{asking}20\n", f"{asking}2\n"))
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        update_config(settings, study.settings)
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        program = account.home / "bin/vasp_std"
        program.parent.mkdir()
        program.write_text(f"#!{folder}/.venv/bin/python\n" + open(FAKE).read())
        program.chmod(0o755)
        names = ("SLURM_CONF", "VASP_PP_PATH", "OMP_NUM_THREADS")
        account.export(
            {key: value for key, value in study.environment.items() if key in names or key.startswith("FAKE")}
        )
        account.own()
        yield study
    finally:
        account.remove()


ENTER = "cd ~/phonoscreen && source .venv/bin/activate"
START = "snakemake --profile slurm"
LAUNCHER = f"bin/{START}"


def begin(study, *, name=r"\[study\]"):
    """A terminal that outlives its login, with the launcher on the path, as the page begins one."""
    terminal = Terminal(study.account)
    terminal.type(block("tmux new -s study") + "\n")
    terminal.wait_for(name)
    terminal.run(block(ENTER).splitlines()[0])
    return terminal


def lose(study, how):
    """End the launcher and the terminal that it runs in."""
    for number in study.account.processes(LAUNCHER):
        os.kill(number, how)
    for number in study.account.processes("tmux new"):
        os.kill(number, signal.SIGTERM)
    study.wait_for(lambda: not study.account.processes(LAUNCHER), "the launcher has gone")


def test_the_page_for_operators_is_followed_word_for_word(study, undisturbed):
    login = Terminal(study.account)
    login.run(block("cd phonoscreen"))
    planned = login.run(block(f"{START} -n"))
    assert "relax_structures" in planned and "stops:" not in planned
    assert "label_forces" in login.run(block("phonoscreen forecast --profile slurm"))
    login.run(block("phonoscreen forecast --profile slurm --config 'transport={temperature_k: 600}'"))

    study.hold()
    terminal = begin(study)
    assert block(ENTER).splitlines()[1] == START
    terminal.type(START + "\n")
    study.wait_for_run("relax_structures")
    terminal.type("\x02d")  # Ctrl-b d
    terminal.wait_for("detached")
    login.type(block("tmux attach -t study") + "\n")
    login.wait_for("relax_structures")
    login.type("\x02d")
    login.wait_for("detached")
    assert "relax_structures:shard=0000" in login.run(block('squeue --me -o "%i %T %k"').splitlines()[0])
    login.run(block('squeue --me -o "%i %T %k"').splitlines()[1], fails=True)  # 1: it is not complete
    assert "one launcher at a time" in login.run(START, fails=True)

    lose(study, signal.SIGKILL)
    terminal = begin(study)
    assert "has ended without removing its lock" in terminal.run(START, fails=True)
    terminal.type(block(f"{START} --unlock") + "\n")
    terminal.wait_for(r"(?s)(earlier launcher's.*){2}")
    lose(study, signal.SIGHUP)
    login.run(block('squeue --me -h -o "%i %Z" | awk -v d="$PWD" \'$2 == d {print $1}\' | xargs -r scancel'))
    study.wait_for(lambda: not study.jobs("PENDING,RUNNING,COMPLETING"), "the orphans have gone")
    study.hold(False)

    (study.folder / "fail").touch()  # one of the calculations that follow ends with an error
    study.account.own()
    login.run(f"{START} --unlock")
    login.run(block(f"{START} structures labels"))
    assert study.number_in("fail.taken")
    said = login.run(block("phonoscreen retry --class machine,engine"))
    assert "engine" in said
    login.run(START)
    login.run(block("phonoscreen lineage results/figures/figure4.pdf"))
    assert typed == set(BLOCKS), "these are typed by nobody"
    tables = {name: content for name, content in undisturbed().items() if name.startswith("tables/")}
    assert study.products("tables") == tables
    assert not study.finished_twice()
