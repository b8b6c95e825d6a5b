"""Results folders that somebody has edited, or that a disk has damaged: each command works or says what is wrong."""

import json
import shutil
from functools import partial
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests import tampered
from tests.tampered import ALL, ARCHIVES, FILES, JSON_FILES, LINE_FILES, ODD, READS, TYPES, WRONG
from trainable import checkpoint
from trainable.checkpoint import CheckpointError
from trainable.objectives import MINORITY_F1


@pytest.fixture(scope="module")
def original(tmp_path_factory, digits_pool):
    return tampered.write(tmp_path_factory.mktemp("results") / "study", digits_pool)


@pytest.fixture
def study(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "study"))


@pytest.fixture
def commands(digits_pool, monkeypatch):
    return tampered.Commands(digits_pool, monkeypatch)


@pytest.mark.parametrize("command", ALL)
def test_the_study_itself_is_refused_by_no_command(study, commands, command):
    assert tampered.refusal(commands, command, study) == []


READERS = {
    "study.json": ("analyze", "confirm", "search", "replay"),
    "confirm.json": ("analyze", "confirm"),
    "winner/model.json": ("predict",),
    "winner/mistakes.json": ("analyze",),
    "trials/2/config.json": ("analyze", "confirm", "replay"),
    "trials/2/epochs.jsonl": ("analyze", "confirm", "replay"),
    "study.journal": ("analyze", "confirm"),
}


def first_read(commands, name, study):
    """The command that does least beyond reading this file."""
    from study.record import files
    from trainable import records
    from trainable.cli import UsageError

    trial = study / "trials/2"
    reads = {
        "confirm.json": [partial(files.read_confirmation, study)],
        "winner/mistakes.json": [partial(files.read_mistakes, study)],
        "study.json": [partial(files.read_study, study)],
        "winner/model.json": [partial(files.read_model, study)],
        "trials/2/config.json": [partial(records.read_config, trial), partial(files.read_trials, study)],
        "trials/2/epochs.jsonl": [partial(records.read_rows, trial, MINORITY_F1), partial(files.read_trials, study)],
        "study.journal": [partial(files.read_trials, study)],
    }[name]  # of a trial's file: the trial alone, and where that is well, all trials
    try:
        for read in reads:
            read()
    except UsageError as error:
        return error.problems
    return []


def mutants(name, content):
    """(what was done, the new text): each key deleted, each value replaced; of lines, in two of them.

    Every value is tried as every type, and as one of the odd values in turn.
    """
    lines = name in LINE_FILES
    documents = [json.loads(line) for line in content.splitlines()] if lines else [json.loads(content)]
    for index in sorted({1, len(documents) - 2} & set(range(len(documents)))) if lines else [0]:
        for number, path in enumerate(tampered.places(documents[index])):
            changes = [("deleted", tampered.without(documents[index], path))]
            values = [*TYPES, ODD[number % len(ODD)]]
            changes += [(repr(v)[:20], tampered.replaced(documents[index], path, v)) for v in values]
            for how, changed in changes:
                everything = [*documents[:index], changed, *documents[index + 1 :]]
                yield (index, path, how), "".join(json.dumps(document) + "\n" for document in everything)


@pytest.mark.parametrize("name", READERS)
def test_each_key_deleted_and_each_value_of_another_type_is_a_sentence_or_makes_no_difference(study, commands, name):
    path = study / name
    taken = []
    num_refused = 0
    for what, text in mutants(name, path.read_text()):
        path.write_text(text)
        before = path.read_bytes()
        if problems := first_read(commands, name, study):
            num_refused += 1
            assert all(str(study) in problem for problem in problems), (what, problems)
        else:
            taken.append((what, text))
        assert path.read_bytes() == before
    assert num_refused > 20
    # a value that a file may have; few are left, and every command copes with them
    for _, text in taken[:: max(1, len(taken) // 4)]:
        path.write_text(text)
        for command in READERS[name]:
            tampered.refusal(commands, command, study)


@pytest.mark.parametrize("name", [name for name in READERS if name not in LINE_FILES])
def test_every_command_that_reads_a_file_refuses_it_before_it_writes_anything(study, commands, name):
    contents = [b"", b"null", b"[]", b"{", b'{"format": 1, "name": "\xff"}', b"[" * 10**5,
                b'{"format": 1, "a":' * 10**4, b"1" * 5000]  # fmt: skip
    for content in contents:
        if content == b"[]" and name == "winner/mistakes.json":
            continue
        (study / name).write_bytes(content)
        before = tampered.everything(study)
        for command in READERS[name]:
            problems = tampered.refusal(commands, command, study)
            assert any(str(study) in problem for problem in problems), (command, content[:20])
        assert tampered.everything(study) == before


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_a_files_place_or_a_file_without_permission_is_a_sentence(study, commands, name, monkeypatch):
    (study / name).unlink()
    (study / name).mkdir()
    for command in READERS[name]:
        assert tampered.refusal(commands, command, study), command
    (study / name).rmdir()
    (study / name).write_text("{}")
    read = Path.read_bytes

    def denied(path):  # as for another user's file; for root there is none
        if path == study / name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    for command in READERS[name]:
        assert tampered.refusal(commands, command, study), command


@pytest.mark.parametrize("name", ["best_epoch", "epoch", "f1", "minority_f1", "val_loss"])
def test_a_row_out_of_range_is_refused_with_its_line_its_field_and_its_value(study, commands, name):
    path = study / "trials/2/epochs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1][name] = {"best_epoch": 99, "epoch": 7, "f1": [0.5] * 9, "minority_f1": 1.5, "val_loss": 1e400}[name]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {
        "best_epoch": "best_epoch of epoch 2 must be an epoch up to it, not 99",
        "epoch": "its epochs are not 1, 2, 3, …",
        "f1": "f1 must have a value for each of the study's classes",
        "minority_f1": "line 2: minority_f1 must be at most 1, not 1.5",
        "val_loss": "line 2: val_loss must be a finite number, not inf",
    }[name]
    for command in ("analyze", "confirm", "replay"):
        assert any(said in problem and str(path) in problem for problem in tampered.refusal(commands, command, study))


TENSORS = {
    "no rows": lambda content: content.pop("rows"),
    "rows that are none": lambda content: content.update(rows=[{"epoch": 1}]),
    "rows that are a number": lambda content: content.update(rows=3),
    "no epoch": lambda content: content.update(rows=[], predictions=[]),
    "a best epoch that is none": lambda content: content["rows"][-1].update(best_epoch=99),
    "no predictions": lambda content: content.update(predictions=[]),
    "predictions of other images": lambda content: content.update(
        predictions=[p[:, 1:] for p in content["predictions"]]
    ),
    "predictions of no class": lambda content: content["predictions"][0].fill_(200),
    "predictions that are floats": lambda content: content.update(
        predictions=[p.float() for p in content["predictions"]]
    ),
    "labels that are a list": lambda content: content.update(val_labels=content["val_labels"].tolist()),
    "labels of no class": lambda content: content["val_labels"].fill_(-1),
    "a tensor larger than its file": lambda content: content.update(
        predictions=[p[:, :1].clone().expand(2, p.shape[1]) for p in content["predictions"]]
    ),
    "labels without end": lambda content: content.update(val_labels=content["val_labels"][:1].expand(2**40)),
    "no best": lambda content: content.update(best={}),
    "logits of other classes": lambda content: content["best"].update(logits=content["best"]["logits"][:, 1:]),
    "no weights": lambda content: content.update(model={}),
    "weights in one place": lambda content: content["model"].update(
        {"classifier.9.weight": content["model"]["classifier.9.weight"][:1, :1].clone().expand(10, 256)}
    ),
    "no optimizer": lambda content: content.update(optimizer={}),
    "an optimizer of other parameters": lambda content: content["optimizer"].update(state={99: {}}),
    "moments of another shape": lambda content: content["optimizer"]["state"][0].update(
        exp_avg=content["optimizer"]["state"][0]["exp_avg"][:1]
    ),
    "moments that are a text": lambda content: content["optimizer"]["state"][0].update(exp_avg="x"),
}


@pytest.mark.parametrize("damage", TENSORS)
def test_a_checkpoint_that_holds_something_else_is_refused_in_a_sentence(study, commands, damage):
    import torch

    path = study / f"trials/{tampered.RUNNING}/last.pt"
    content = checkpoint.read(path)
    TENSORS[damage](content)
    torch.save(content, path)
    (problem,) = tampered.refusal(commands, "resume", study)
    assert str(path) in problem
    with pytest.raises(CheckpointError, match=r"last\.pt: "):
        commands_read(commands, path)


def commands_read(commands, path):
    """What a worker does with it."""
    import torch

    from trainable.images.trial import trial_images

    content = checkpoint.read(path)
    config = checkpoint.stored_config(content, path)
    images = trial_images(commands.pool, config.split_seed, config.cut_seed, torch.device("cpu"))
    checkpoint.restore(content, config, images, path)


def test_what_the_optimizer_is_set_to_comes_from_the_config_whatever_the_file_says(study, commands):
    import torch

    from trainable.images.trial import trial_images

    path = study / f"trials/{tampered.RUNNING}/last.pt"
    content = checkpoint.read(path)
    config = checkpoint.stored_config(content, path)
    content["optimizer"]["param_groups"] = [{"lr": "much", "params": "all"}]
    torch.save(content, path)
    images = trial_images(commands.pool, config.split_seed, config.cut_seed, torch.device("cpu"))
    state = checkpoint.restore(checkpoint.read(path), config, images, path)
    assert [group["lr"] for group in state.learner.optimizer.param_groups] == [config.learning_rate]


@pytest.mark.parametrize("how", ["torch", "numpy", "pickle"])
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_pickle_that_would_run_code_is_never_run(study, commands, name, how, tmp_path):
    trace = tmp_path / "was here"
    tampered.plant(study / name, trace, how)
    commands.with_page = how == "pickle"  # the page is made of what the ranking has read
    for command in ALL:
        tampered.refusal(commands, command, study)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["confirm.json", "study.json", "winner/model.json"])
def test_keys_of_a_later_version_are_no_obstacle(study, commands, name):
    content = json.loads((study / name).read_text())

    def grown(value):
        if isinstance(value, dict):
            return {key: grown(inner) for key, inner in value.items()} | {"of_a_later_version": [1]}
        return [grown(inner) for inner in value] if isinstance(value, list) else value

    # what these hold are names of fields, recipes and versions
    kept = ("config", "space", "versions", "hardware", "test", "recipes")
    changed = {key: value if key in kept else grown(value) for key, value in content.items()} | {
        "of_a_later_version": 1
    }
    (study / name).write_text(json.dumps(changed))
    for command in READERS[name]:
        assert tampered.refusal(commands, command, study) == []


DAMAGE = st.one_of(
    st.tuples(st.just("truncate"), st.sampled_from(FILES), st.floats(0, 1), st.none()),
    st.tuples(st.just("flip"), st.sampled_from(FILES), st.floats(0, 1), st.integers(1, 255)),
    st.tuples(st.just("delete"), st.sampled_from(JSON_FILES + LINE_FILES), st.floats(0, 1), st.none()),
    st.tuples(st.just("change"), st.sampled_from(JSON_FILES + LINE_FILES), st.floats(0, 1), st.sampled_from(WRONG)),
    st.tuples(st.just("swap"), st.sampled_from(FILES), st.floats(0, 1), st.sampled_from(FILES)),
)


def inflict(study, damage):
    """One of the ways in which a file may come to harm."""
    kind, name, share, more = damage
    path = study / name
    content = path.read_bytes()
    place = min(int(share * len(content)), len(content) - 1)
    if kind == "truncate":
        rewrite(path, content[:place])
    elif kind == "flip":
        rewrite(path, content[:place] + bytes([content[place] ^ more]) + content[place + 1 :])
    elif kind == "swap":
        rewrite(path, (study / more).read_bytes())
        rewrite(study / more, content)
    else:
        lines = content.decode().splitlines() if name in LINE_FILES else [content.decode()]
        index = min(int(share * len(lines)), len(lines) - 1)
        document = json.loads(lines[index])
        paths = list(tampered.places(document))
        if not paths:  # nothing is left of it, after another damage
            return
        at = paths[min(int(share * 7919 * len(paths)) % len(paths), len(paths) - 1)]
        changed = tampered.without(document, at) if kind == "delete" else tampered.replaced(document, at, more)
        lines[index] = json.dumps(changed)
        path.write_text("\n".join(lines) + "\n")


def rewrite(path, content):
    """Also where it is a link: the original stays as it is."""
    path.unlink()
    path.write_bytes(content)


def fuzz(original, commands, tmp_path, num_cases, num_harms):
    @hypothesis.settings(max_examples=num_cases, suppress_health_check=list(HealthCheck))
    @given(st.lists(DAMAGE, min_size=1, max_size=num_harms))
    def each_command_works_or_says_what_is_wrong(damages):
        study = tmp_path / "study"
        shutil.rmtree(study, ignore_errors=True)
        tampered.copied(original, study)
        for damage in damages:
            try:
                inflict(study, damage)
            except (ValueError, KeyError, IndexError, TypeError):  # no JSON any more, after another damage
                continue
        before = tampered.everything(study)
        for command in READS:
            tampered.refusal(commands, command, study)
            assert tampered.everything(study) == before
        tampered.refusal(commands, "resume", study)

    each_command_works_or_says_what_is_wrong()


def test_two_hundred_damaged_studies_end_in_sentences(original, commands, tmp_path):
    commands.with_page = False
    fuzz(original, commands, tmp_path, 200, num_harms=1)


@pytest.mark.slow
def test_five_thousand_damaged_studies_end_in_sentences(original, commands, tmp_path):
    fuzz(original, commands, tmp_path, 5000, num_harms=3)
