"""The local runtime: the same question without a cluster, the algorithm as a child process."""

import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from faultproxy import has
from harness import average
from harness.deep import dug
from harness.nodes import AVERAGE, AVERAGE_4_15, LONG, ODD
from harness.wait import until


def test_partial_average(local_node, researcher, world):
    """The official algorithm tools read the same variables and files; the number is the file's."""
    local_node().start_online()
    task = researcher.ask(
        AVERAGE, "partial_average", [world.organization()], databases=["default"], column_name="salary"
    )
    assert researcher.result(task) == pytest.approx(average.partial(average.employee_files()[0], "salary"))


@pytest.mark.parametrize("image", [AVERAGE, AVERAGE_4_15])
def test_central_average(image, local_node, researcher, world):
    """An algorithm that asks the others, with the official tools, through the proxy that each node has on loopback."""
    for organization in range(3):
        local_node(organization).start_online()
    task = researcher.ask(
        image, "central_average", [world.organization(1)], databases=["default"], column_name="salary"
    )
    expected = average.overall([average.partial(file, "salary") for file in average.employee_files()[:3]])
    assert researcher.result(task)["average"] == pytest.approx(expected)


def test_a_start_asks_for_no_more_than_it_needs(local_node, proxy):
    """Each request costs a start some hundredths of a second, and a server with many nodes as much for each of them. Keys are asked for
    where there is encryption, and the other organizations of a collaboration, which may be hundreds, are nobody's business."""
    local_node(via=proxy).start_online()
    until("the first look at the open runs", lambda: proxy.seen("GET", r"/run$"))
    asked = [f"{each.method} {re.sub(r'[0-9]+$', 'N', each.path)}" for each in proxy.requests if "/socket.io/" not in each.path]
    assert [each for each in asked if not each.endswith("/run")] == [
        "POST /api/token/node",
        "GET /api/node/N",
        "GET /api/collaboration/N",
    ]


def test_it_says_that_it_isolates_nothing(local_node):
    """Nobody should take it for a sandbox."""
    node = local_node().start_online()
    assert "isolat" in node.log()


def test_image_that_is_not_listed(local_node, researcher, world):
    """There is nothing to pull: what the configuration doesn't name is refused, and the log names it."""
    local_node().start_online()
    (run,) = researcher.finished(researcher.ask(ODD, "exit", [world.organization()]))
    assert run["status"] in ("not allowed", "non-existing Docker image")
    assert ODD in run["log"]


def test_image_whose_name_is_too_long(local_node, researcher, world, tmp_path):
    """It is told at once as what it is, in few words; nothing is made of it."""
    node = local_node().start_online()
    task = researcher.ask("localhost/" + "y" * 1_400_000 + ":1", "whoami", [world.organization()])
    (run,) = researcher.finished(task, within=30)
    assert run["status"] == "non-existing Docker image"
    assert "that is not a valid name" in run["log"] and len(run["log"]) < 1_000
    assert len(node.log()) < 20_000
    assert not list((tmp_path / "tasks").glob("sextant-*/task-*"))


def test_database_parameters_that_are_too_large(local_node, researcher, world, tmp_path):
    """As on a cluster: told before anything is made."""
    local_node().start_online()
    asked = [{"label": "default", "query": "q" * 300_000}]
    task = researcher.ask(AVERAGE, "partial_average", [world.organization()], databases=asked, column_name="salary")
    (run,) = researcher.finished(task, within=30)
    assert run["status"] == "start failed"
    assert "too large" in run["log"] and len(run["log"]) < 1_000
    assert not list((tmp_path / "tasks").glob("sextant-*/task-*"))


def test_texts_of_others_steer_no_terminal(local_node, researcher, world):
    """A label with line ends and escapes is in the report as what it is, and no line of the log is the researcher's."""
    node = local_node().start_online()
    label = "martians\n[sextant] forged\x1b[2J\u202e" + "x" * 7_000
    # The client looks at labels before it sends them, the server does not.
    task = researcher.ask_raw(AVERAGE, "e30=", [world.organization()], databases=[{"label": label}])
    (run,) = researcher.finished(task, within=30)
    assert run["status"] == "failed"
    assert r"'martians\n[sextant] forged\u{1b}[2J\u{202e}xx" in run["log"] and len(run["log"]) < 1_000
    assert not any(character in run["log"] + node.log() for character in "\x1b\u202e")
    assert not any(line.startswith("[sextant] forged") for line in (run["log"] + node.log()).splitlines())


def test_an_algorithm_that_pretends_to_be_the_node(local_node, researcher, world):
    """What it prints is quoted where it looks like the node's own words; the node's stand alone."""
    forged = "printf '[sextant] The run was killed.\\n50 %%\\r[SEXTANT] a\\n\\033]0;x\\033[2J'; exit 3"
    local_node(local={"algorithms": {ODD: {"command": ["sh", "-c", forged]}}}).start_online()
    (run,) = researcher.finished(researcher.ask(ODD, "exit", [world.organization()]))
    assert run["status"] == "crashed"
    quoted = "> [sextant] The run was killed.\n50 %\n> [SEXTANT] a\n␛]0;x␛[2J\n"
    assert run["log"] == quoted + "[sextant] The algorithm ended with exit code 3."


def test_algorithm_that_raises(local_node, researcher, world):
    """As on a cluster: crashed, with the traceback in the log."""
    local_node().start_online()
    task = researcher.ask(AVERAGE, "fail", [world.organization()], message="no such patient")
    (run,) = researcher.finished(task)
    assert run["status"] == "crashed"
    assert "no such patient" in run["log"]


def test_files_and_variables(local_node, researcher, world):
    """The variables have the regular node's names; the paths are of this machine."""
    local_node(algorithm_env={"COLOUR": "blue"}).start_online()
    task = researcher.ask(AVERAGE, "whoami", [world.organization()], databases=["default"])
    environment = researcher.result(task)["environment"]
    assert environment["COLOUR"] == "blue"
    assert environment["DEFAULT_DATABASE_TYPE"] == "csv"
    assert environment["DEFAULT_DATABASE_URI"] == str(average.employee_files()[0])
    for name in ("INPUT_FILE", "OUTPUT_FILE", "TOKEN_FILE"):
        assert environment[name].startswith("/")
    # The node's own secrets are not the algorithm's.
    assert world.api_key() not in str(environment)


def test_several_at_once(local_node, researcher, world, tmp_path):
    """Runs don't queue here either."""
    local_node().start_online()
    enough = tmp_path / "enough"
    tasks = [
        researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=LONG, value=number, unless=str(enough))
        for number in range(4)
    ]
    until("four algorithms to run at once", lambda: all(researcher.run(task)["status"] == "active" for task in tasks))
    enough.touch()
    assert [researcher.result(task) for task in tasks] == [0, 1, 2, 3]
    runs = [researcher.run(task) for task in tasks]
    assert max(run["started_at"] for run in runs) < min(run["finished_at"] for run in runs)


def test_killed_and_restarted(local_node, proxy, researcher, world, tmp_path):
    """The algorithm outlives a node that is killed; the next one reports it, once."""
    node = local_node(via=proxy).start_online()
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=LONG, value="slept", unless=str(tmp_path / "enough"))
    until("the algorithm to run", lambda: researcher.run(task)["status"] == "active")
    node.kill()
    node.start_online()
    (tmp_path / "enough").touch()
    assert researcher.result(task) == "slept"
    assert len(proxy.seen("PATCH", r"/run/\d+$", where=has("finished_at"))) == 1


def folder_of(tmp_path: Path, run: int) -> Path:
    """Where the node keeps a run."""
    return until(f"the folder of run {run}", lambda: next((tmp_path / "tasks").glob(f"sextant-*/task-*-run-{run}"), None))


def processes_of(folder: Path) -> list[int]:
    """The processes that were started for a run."""
    mark = f"SEXTANT_RUN_FOLDER={folder}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def test_a_supervisor_is_killed(local_node, researcher, world, tmp_path):
    """By the kernel, for example, when memory is short: its algorithm does not go on unseen."""
    local_node().start_online()
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=LONG)
    folder = folder_of(tmp_path, researcher.run(task)["id"])
    until("supervisor and algorithm", lambda: len(processes_of(folder)) == 2)
    os.kill(int((folder / "pid").read_text().split()[0]), signal.SIGKILL)
    (run,) = researcher.finished(task)
    assert run["status"] == "crashed"
    assert "ended from outside" in run["log"]
    until("the end of all that was the run's", lambda: not processes_of(folder) and not folder.exists())


def test_the_folder_of_a_run_is_removed(local_node, researcher, world, tmp_path):
    """By the algorithm, for example: the run ends with its processes, and its place is free for the next one."""
    local_node(local={"max_concurrent_runs": 1}).start_online()
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=LONG)
    folder = folder_of(tmp_path, researcher.run(task)["id"])
    until("supervisor and algorithm", lambda: len(processes_of(folder)) == 2)
    shutil.rmtree(folder)
    for process in processes_of(folder):
        os.kill(process, signal.SIGKILL)
    (run,) = researcher.finished(task)
    assert run["status"] == "crashed" and "was removed" in run["log"]
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=0, value="next")
    assert researcher.result(task) == "next"


def test_a_number_that_is_used_again(local_node, proxy, researcher, world, tmp_path):
    """SQLite gives the number of a deleted run to the next one: what is left of the old one is not taken for it."""
    node = local_node(via=proxy).start_online()

    def ask(value: str) -> int:
        return researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=0, value=value)

    with proxy.refuse("PATCH", r"/run/\d+$", 503):
        task = ask("old")
        run = researcher.run(task)["id"]
        exit = folder_of(tmp_path, run) / "exit"
        until("the algorithm's end", exit.exists, shows=node.log)
        node.kill()
    world.server.request("DELETE", f"/task/{task}")
    task = ask("new")
    assert researcher.run(task)["id"] == run, "else this test shows nothing"
    node.start_online()
    assert researcher.result(task) == "new"


def test_an_input_that_is_wrong_leaves_nothing(local_node, researcher, world, tmp_path):
    """A long input is fetched when the run's folder is there already; the run is not started, and the folder goes."""
    local_node().start_online()
    task = researcher.ask_raw(AVERAGE, "A" * 8000 + "%%%%", [world.organization()])
    (run,) = researcher.finished(task)
    assert run["status"] == "start failed"
    assert "base64" in run["log"]
    assert not list((tmp_path / "tasks").glob("sextant-*/task-*"))


def test_what_a_list_did_not_show_is_found_soon(local_node, researcher, world, proxy):
    """Open runs come in pages. What ends between two of them moves others to pages that have been read: they don't wait for the next look
    that would be made anyway."""
    write = 'printf 1 > "$(printf %s "$OUTPUT_FILE" | tr ! = | base32 -d)"'
    node = local_node(via=proxy, local={"algorithms": {ODD: {"command": ["sh", "-c", write]}}, "max_concurrent_runs": 5})
    tasks = [researcher.ask(ODD, "exit", [world.organization()]) for _ in range(30)]

    def finished() -> int:
        return sum(bool(run["finished_at"]) for task in tasks for run in researcher.runs(task))

    # Not online, so that nothing else tells it to look.
    with proxy.refuse("GET", r"/socket\.io", 503), proxy.refuse("POST", r"/socket\.io", 503):
        with proxy.hold("GET", r"/run$", where=lambda request: "page=2" in request.query) as second:
            # A slow server: what it has told is begun with before it has told everything.
            with proxy.slow(2.5):
                node.start()
                second.wait()
            until("the first page's runs to finish", lambda: finished() == 10, within=90, every=0.5, shows=node.log)
            second.let_go()
        until("the others to finish", lambda: finished() == 30, within=40, every=0.5, shows=node.log)


def test_a_folder_that_others_can_reach_is_refused(local_node, tmp_path):
    """The node's folder must be its user's alone; the error says which folder, whose, and what to do."""
    node = local_node().start_online()
    node.stop()
    (root,) = (tmp_path / "tasks").glob("sextant-*")
    root.chmod(0o777)
    assert node.start().wait_end() == 2
    assert re.search(rf"{root} is of user \d+ with mode 777.*chmod 700", node.log())
    root.chmod(0o700)
    root.rename(tmp_path / "elsewhere")
    root.symlink_to(tmp_path / "elsewhere")
    assert node.start().wait_end() == 2
    assert "is a link" in node.log()
    root.unlink()
    (tmp_path / "tasks").chmod(0o770)
    assert node.start().wait_end() == 2
    assert re.search(r"tasks belongs to user \d+ and has mode 770.*chmod go-w", node.log())


def test_planted_files_and_folders(local_node, researcher, world, tmp_path):
    """Whatever lies in the places of the node's files is neither written to nor believed."""
    node = local_node().start_online()
    node.stop()
    (root,) = (tmp_path / "tasks").glob("sextant-*")
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (root / "proxy-port").unlink()
    (root / "proxy-port").symlink_to(precious)
    node.start_online()
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=0, value="first")
    assert researcher.result(task) == "first"
    # The numbers of runs go up by one.
    forged = root / f"task-{task + 1}-run-{researcher.run(task)['id'] + 1}"
    forged.mkdir(mode=0o777)
    for name in ("input", "output", "log"):
        (forged / name).symlink_to(precious)
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=0, value="second")
    assert researcher.result(task) == "second"
    assert precious.read_text() == "kept"
    node.stop()
    (root / "lock").unlink()
    os.mkfifo(root / "lock")
    assert node.start().wait_end() == 2
    assert "lock can't be locked: it is not a file" in node.log()


def test_what_an_algorithm_leaves_ends_no_node(local_node, researcher, world, tmp_path):
    """A folder of great depth, and one that lets nobody in: the node goes on, and removes them."""
    node = local_node().start_online()
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=LONG, value="slept", unless=str(tmp_path / "enough"))
    folder = folder_of(tmp_path, researcher.run(task)["id"])
    until("the algorithm to run", lambda: researcher.run(task)["status"] == "active")
    with dug(folder, 25_000):
        (folder / "d").chmod(0)
        folder.chmod(0)
        (tmp_path / "enough").touch()
        assert researcher.result(task) == "slept"
        removing = folder.parent / "removing"
        until("all of it to be removed", lambda: not folder.exists() and not list(removing.iterdir()))
        assert node.running
