"""Studies on a Ray cluster of two machines, in network namespaces: refusals, and machines that fail, leave and join."""

import json
import shutil
import subprocess
import time
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests import cluster, studies

# what is proposed depends on the seed and the trial's number alone: so rows are those of any other machine
SETTINGS = ["--data", "digits", "--seed", "3", "--precision", "float32", "--algorithm", "random", "--scheduler", "none"]
SMALL = [*SETTINGS, "--image-size", "16", "--epochs", "2", "--trials", "4"]
LONG = [*SETTINGS, "--image-size", "32", "--epochs", "6", "--trials", "6"]


@pytest.fixture
def two(tmp_path):
    if why := cluster.cannot_be_made():
        pytest.skip(why)
    with cluster.Cluster(tmp_path) as made:
        yield made


def search(two, *arguments, **more):
    return two.command("study.search", *arguments, "--address", two.head, "--results", two.folder / "results", **more)


def finished(process, seconds=300):
    out, err = process.communicate(timeout=seconds)
    assert (process.returncode, err) == (0, ""), out
    return out


def rows_of(folder):
    """Each trial's rows, without what the clock says."""
    found = {}
    for path in folder.glob("trials/*/epochs.jsonl"):
        rows = map(json.loads, path.read_text().splitlines())
        found[int(path.parent.name)] = [{k: v for k, v in r.items() if not k.endswith("_seconds")} for r in rows]
    return found


def check_rows(two, settings):
    """The rows must be those of one machine: this process."""
    studies.finish(studies.begin(*settings, "--results", str(two.folder / "alone")))
    rows = rows_of(two.folder / "results/digits")
    assert len(rows) == int(settings[settings.index("--trials") + 1])
    assert rows == rows_of(two.folder / "alone/digits")


def once(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def mounted(two, path, text):
    """A shell command that puts another text in the place of a file."""
    other = two.folder / Path(path).name
    other.write_text(text)
    return f"mount --bind {other} {path}"


def test_a_study_on_two_machines_gives_the_rows_of_one_and_a_machine_that_lacks_something_is_refused(two):
    results = two.folder / "results"
    results.mkdir()
    code, torch = cluster.ROOT / "trainable/loop.py", distribution("torch").locate_file("torch-2.0.dist-info").parent
    metadata = next(torch.glob("torch-*.dist-info")) / "METADATA"
    other_torch = "Metadata-Version: 2.1\nName: torch\nVersion: 2.14.0\n"
    faults = [mounted(two, code, "# older\n"), mounted(two, metadata, other_torch), f"mount -t tmpfs none {results}"]
    two.start("a")
    two.start("b", first=" && ".join(faults))
    process = search(two, *SMALL)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    unseen, other_code, torch_lacks = err.splitlines()
    node = "study.search: --address: node 10.77.0.2 "
    rule = f"does not see {results}, which must be one and the same folder on all nodes (No such file or directory)"
    assert unseen == node + rule
    assert other_code == node + "has another version of this project: trainable/loop.py differ"
    assert torch_lacks.startswith(node + "has torch 2.14.0 installed, this machine ")
    assert list(results.iterdir()) == []

    two.leave("b")
    two.start("b", "--object-store-memory=80000000")
    process = search(two, *SMALL, "--image-size", "160", "--dry-run")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("study.search: --image-size 160: node 10.77.0.2 has room for 0.075 GiB of images, and these ")
    assert err.count("\n") == 1

    # a trial must outlast the start of the slower machine's worker, or the faster one is given all of them
    out = finished(search(two, *SMALL, "--epochs", "12"))
    assert "2 at a time on 2 GPU(s)" in out
    assert len(two.starts("a")) >= 2
    assert len(two.starts("b")) >= 2
    whole = rows_of(two.folder / "results/digits")
    assert sorted(two.starts("a") + two.starts("b")) == [(n, row["epoch"]) for n in range(4) for row in whole[n]]
    check_rows(two, [*SMALL, "--epochs", "12"])


@pytest.mark.slow
def test_a_machine_that_dies_amid_an_epoch_loses_only_that_one_and_one_that_joins_late_gets_work(two):
    two.start("a")
    process = search(two, *LONG)
    once(lambda: two.starts("a"), process)
    with two.frozen("a", "ray::"):  # or it is done with all trials before the other one has started
        two.start("b")
        once(lambda: two.starts("b") and two.starts("b")[-1][1] >= 2, process)
    two.kill("b", "raylet")
    trial, epoch = two.starts("b")[-1]
    out = finished(process)
    assert "\nnode 10.77.0.2 has joined the cluster and gets work\n" in out
    assert "\nnode 10.77.0.2 has left the cluster; its trials go on elsewhere\n" in out
    assert "marked dead" not in out
    assert "1 at a time on 1 GPU(s)" in out
    elsewhere = [e for t, e in two.starts("a") if t == trial]
    assert elsewhere == list(range(epoch, 7))
    check_rows(two, LONG)


@pytest.mark.slow
def test_a_cable_that_is_cut_for_a_minute_costs_the_machine_behind_it_and_no_row(two):
    two.start("a")
    two.start("b")
    process = search(two, *LONG)
    once(lambda: two.starts("b") and two.starts("b")[-1][1] >= 2, process)
    two.cable("down")
    time.sleep(60)
    two.cable("up")
    finished(process)
    check_rows(two, LONG)


@pytest.mark.slow
def test_a_head_that_dies_ends_the_study_with_a_sentence_and_after_its_restart_the_same_command_goes_on(two):
    two.start("a")
    two.start("b")
    process = search(two, *LONG)
    once(lambda: len(two.starts("a")) > 1 and len(two.starts("b")) > 1, process)
    two.kill("a", "gcs_server")
    start = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 30
    assert process.returncode == 1
    kept = "all epochs that were finished are kept, and the same command goes on\n"
    assert err == f"study.search: Ray has ended: its server at {two.head} no longer answers; {kept}"
    before = rows_of(two.folder / "results/digits")
    for machine in "ab":
        two.kill(machine)
    shutil.rmtree(two.temporary)
    two.start("a")
    two.start("b")
    finished(search(two, *LONG))
    after = rows_of(two.folder / "results/digits")
    assert all(after[trial][: len(rows)] == rows for trial, rows in before.items())
    check_rows(two, LONG)


SRUN = """#!/bin/sh
case "$*" in *hostname*) echo 10.77.0.1; exit;; esac
while [ "${1#--}" != "$1" ]; do shift; done
for machine in a b; do
    ip netns exec TAG$machine unshare --mount --pid --fork --mount-proc sh -c \
        'mount -t tmpfs none /tmp/ray && "$@"' sh "$@" &
done
status=0
for child in $(jobs -p); do wait "$child" || status=$?; done
exit $status
"""


@pytest.mark.slow
def test_the_file_for_slurm_starts_ray_on_all_nodes_and_runs_the_study_on_the_first(two):
    """Slurm is played by two scripts. Each machine sees its own processes alone: Ray ends all of Ray that it sees."""
    slurm = two.folder / "slurm"
    slurm.mkdir()
    Path("/tmp/ray").mkdir(exist_ok=True)
    for name, text in (("scontrol", "#!/bin/sh\necho a; echo b\n"), ("srun", SRUN.replace("TAG", two.tag))):
        (slurm / name).write_text(text)
        (slurm / name).chmod(0o755)
    given = {"SUBMIT_DIR": str(two.checkout), "JOB_NODELIST": "[a-b]", "JOB_NUM_NODES": "2", "CPUS_PER_TASK": "1"}
    environment = two.environment | {f"SLURM_{name}": value for name, value in given.items()}
    environment["PATH"] = f"{slurm}:{environment['PATH']}"
    job = [str(two.checkout / "cluster/slurm.sh"), *SMALL, "--results", str(two.folder / "results")]
    done = subprocess.run(["bash", *job], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 at a time on the CPU" in done.stdout
    check_rows(two, SMALL)


@pytest.mark.slow
def test_a_cluster_that_does_not_let_us_in_is_told_in_a_sentence(two):
    two.start("a")
    for environment, why in [
        ({"RAY_AUTH_TOKEN": "0" * 40}, "the cluster asks for another token than this machine's (see docs/cluster.md)"),
        ({"RAY_AUTH_MODE": "disabled"}, "the cluster asks for a token; RAY_AUTH_MODE=token here sends it this one's"),
    ]:
        start = time.monotonic()
        process = search(two, *SMALL, environment=environment)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - start < 30
        assert (process.returncode, out) == (2, "")
        assert err.startswith(f"study.search: --address {two.head}: {why}")
        assert err.count("\n") == 1
    assert not (two.folder / "results").exists()
