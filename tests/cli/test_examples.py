"""The examples and the README, run as written.

The commands come from the `console` blocks of each example's README, in a copy of its directory; only the ports
are changed, to free ones. A command that serves is left running until the text says "Stop the …". What a `curl`
prints must match the lines below it: the status line, the header fields shown, and what follows the last `...` as the
body, whatever that is where nothing follows. Other commands that end must print the lines below them in this order,
with anything in the place of `...`.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.golang import go

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    path.parent for path in (ROOT / "examples").glob("*/README.md") if path.parent.name != "deploy"
)
PORTS = ("8080", "9000", "4222")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of the console blocks with the output written below it, and each `stop …` that the text says."""
    found: list[tuple[str, list[str]]] = []
    for part in re.split(r"^(```console\n.*?^```$)", text, flags=re.MULTILINE | re.DOTALL):
        if not part.startswith("```console"):
            found += [(f"stop {what}", []) for what in re.findall(r"\bStop the (\w+)", part)]
            continue
        for line in part.splitlines()[1:-1]:
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def differences(expected: list[str], response: str) -> list[str]:
    """What of the lines that were promised the response (as `curl -i` prints it) lacks."""
    head, _, body = response.replace("\r\n", "\n").partition("\n\n")
    status, *fields = head.splitlines()
    last = len(expected) - expected[::-1].index("...")
    promised = [line for line in expected[1 : last - 1] if line != "..."]
    wrong = [] if status == expected[0] else [f"status line {status!r}, not {expected[0]!r}"]
    for name in {line.partition(":")[0] for line in promised}:
        values = [line for line in promised if line.startswith(f"{name}:")]
        actual = [line for line in fields if line.startswith(f"{name}:")]
        wrong += [] if actual == values else [f"{actual}, not {values}"]
    wrong += (
        []
        if body.splitlines() == expected[last:] or not expected[last:]
        else [f"body {body!r}, not {expected[last:]}"]
    )
    return wrong


@pytest.fixture
def example(request, tmp_path: Path) -> Path:
    """A copy of an example's directory with ports that are free."""
    copy = tmp_path / "examples" / request.param.name
    shutil.copytree(request.param, copy, ignore=shutil.ignore_patterns("__pycache__", "target"))
    # Where native plugins look for them; a crate of the workspace wants the whole of it.
    for beside in ("include", "sdk", "Cargo.toml", "rust", "benches", "tests"):
        (tmp_path / beside).symlink_to(ROOT / beside)
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = {old: str(one.getsockname()[1]) for old, one in zip(PORTS, taken, strict=True)}
    for one in taken:
        one.close()
    for path in copy.rglob("*"):
        if path.suffix in (".md", ".yaml", ".py"):
            text = path.read_text()
            path.write_text(re.sub(r"\b(8080|9000|4222)\b", lambda found: ports[found[0]], text))
    if (copy / "Cargo.toml").exists():
        # What an earlier run has compiled is good for this one.
        target = ROOT / "target" / "examples" / request.param.name
        target.mkdir(parents=True, exist_ok=True)
        (copy / "target").symlink_to(target)
    return copy


def without_variables(command: str) -> tuple[dict[str, str], str]:
    """The environment variables that stand before a command, and the command."""
    variables: dict[str, str] = {}
    while found := re.match(r"([A-Z_]+)=(\S+) ", command):
        variables[found[1]] = found[2]
        command = command[found.end() :]
    return variables, command


def argv(command: str) -> list[str]:
    """The words of a command, from this environment's own programs."""
    program, *rest = shlex.split(command)
    own = Path(sys.executable).with_name(program)
    if program in ("sed", "cargo", "cc", "./plugin"):
        return [program, *rest]
    if program == "go":
        return [go(), *rest]
    if program in ("python", "nylon", "nats-server"):
        assert own.exists() or program == "python", f"{program} is not in this environment"
        return [sys.executable if program == "python" else str(own), *rest]
    assert program == "curl", f"what is {program}?"
    return [program, *rest]


SERVING = {
    "python -m http.server": "origin",
    "nats-server": "broker",
    "nylon worker": "worker",
    "nylon run": "gateway",
    "python ": "worker",
    "./plugin": "worker",
}
ENDING = ("nylon reload", "sed -i", "python show.py", "go build", "cargo ", "cc ")
READY = {"gateway": "listening on", "worker": "serving group", "broker": "Server is ready"}


def unkept(expected: list[str], output: str) -> list[str]:
    """The lines that were promised and do not come, in their order, with nothing between them but for `...`."""
    printed = output.splitlines()
    anywhere = False
    for number, line in enumerate(expected):
        if line == "...":
            anywhere = True
            continue
        while anywhere and printed and printed[0] != line:
            printed.pop(0)
        if not printed or printed.pop(0) != line:
            return expected[number:]
        anywhere = False
    return [] if anywhere or not printed else ["nothing more"]


def group_of(command: str) -> str:
    """The group that a worker's command names."""
    words = shlex.split(command)
    assert "--group" in words, f"a second worker without a group of its own: {command}"
    return words[words.index("--group") + 1]


def await_ready(running, command: str, what: str) -> None:
    """Until a command serves: it says so, or (an HTTP server, which does not) it takes connections."""
    if what != "origin":
        running.wait_for(READY[what])
        return None
    port = int(argv(command)[3])
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline and running.process.poll() is None, running.output
            time.sleep(0.02)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name, indirect=True)
def test_example_does_what_its_readme_says(example: Path, start):
    running = {}
    tried = 0
    for line, expected in commands((example / "README.md").read_text()):
        variables, command = without_variables(line)
        if command.startswith("stop "):
            stopped = running.pop(command.removeprefix("stop "))
            stopped.send(signal.SIGINT)
            assert stopped.wait() == 0, stopped.output
        elif command.startswith(ENDING):
            environment = {**os.environ, **variables}
            done = subprocess.run(
                argv(command), cwd=example, env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
            assert unkept(expected, done.stdout) == [], f"$ {command}\n{done.stdout}"
        elif command.startswith("curl "):
            words = [*argv(command), "--silent"]
            done = subprocess.run(words, cwd=example, capture_output=True, text=True, timeout=20, check=True)
            assert differences(expected, done.stdout) == [], f"$ {command}\n{done.stdout}"
            tried += 1
        else:
            what = next(what for start_of, what in SERVING.items() if command.startswith(start_of))
            # A second worker may stand beside the first one in a group of its own.
            name = group_of(command) if what == "worker" and what in running else what
            assert name not in running, f"the text does not stop the {name} before it starts another"
            running[name] = start(*argv(command), cwd=example, **variables)
            await_ready(running[name], command, what)
    assert tried >= 2


def test_readme_shows_the_quickstarts_own_files():
    readme = (ROOT / "README.md").read_text()
    quickstart = ROOT / "examples" / "quickstart"
    assert (quickstart / "auth.py").read_text() in blocks(readme, "python")
    yaml = blocks(readme, "yaml")
    assert (quickstart / "nylon.yaml").read_text() in yaml
    [changed] = [block for block in yaml if block.startswith("messaging:")]
    assert changed in (quickstart / "nylon-nats.yaml").read_text()


def test_readme_shows_the_quickstarts_own_commands():
    readme = commands((ROOT / "README.md").read_text())
    quickstart = commands((ROOT / "examples" / "quickstart" / "README.md").read_text())
    shown = [step for step in readme if not step[0].startswith("make ")]
    assert len(shown) >= 3
    assert [step for step in shown if step not in quickstart] == []


def test_both_configurations_of_the_quickstart_differ_in_the_plugin_only():
    in_process = (ROOT / "examples" / "quickstart" / "nylon.yaml").read_text()
    on_nats = (ROOT / "examples" / "quickstart" / "nylon-nats.yaml").read_text()
    tail = in_process[in_process.index("services:") :]
    assert on_nats.endswith(tail)


def test_line_that_is_not_printed_is_noticed():
    assert unkept(["a", "...", "c"], "a\nb\nb\nc\n") == []
    assert unkept(["...", "c"], "c") == unkept(["a", "..."], "a\nb") == unkept([], "") == []
    for expected, output in ((["a"], "b"), (["a"], "a\nb"), (["a", "c"], "a\nb\nc"), (["...", "a"], "a\nb")):
        assert unkept(expected, output) != []


def test_promise_that_is_not_kept_is_noticed():
    response = "HTTP/1.1 200 OK\r\nb: 2\r\na: 1\r\na: 0\r\nc: 3\r\n\r\nbody\n"
    assert differences(["HTTP/1.1 200 OK", "...", "a: 1", "a: 0", "b: 2", "...", "body"], response) == []
    assert differences(["HTTP/1.1 200 OK", "...", "body"], response) == []
    assert differences(["HTTP/1.1 200 OK", "...", "c: 3", "..."], response) == []
    for wrong in (
        ["HTTP/1.1 201 Created", "...", "body"],
        ["HTTP/1.1 200 OK", "...", "a: 0", "a: 1", "...", "body"],
        ["HTTP/1.1 200 OK", "...", "a: 1", "...", "body"],
        ["HTTP/1.1 200 OK", "...", "d: 4", "...", "body"],
        ["HTTP/1.1 200 OK", "...", "other"],
    ):
        assert len(differences(wrong, response)) == 1


@pytest.mark.parametrize(
    "page",
    sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_of_a_page_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
