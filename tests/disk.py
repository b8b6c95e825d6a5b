"""Disks on which there is little room."""

import os
import resource
import subprocess
from contextlib import contextmanager

import pytest
from hypothesis import strategies


@contextmanager
def files_of_at_most(num_bytes):
    """As on a disk that is nearly full: writing a longer file fails midway."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder, size):
    """A file system of its own at ``folder``, of a size such as "300k"."""
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@strategies.composite
def damages(draw, num_bytes):
    """What can happen to a file of so many bytes, as a function of its content: most often a byte is another one."""
    place = draw(strategies.integers(0, num_bytes - 1) | strategies.integers(max(0, num_bytes - 80), num_bytes - 1))
    kind = draw(strategies.sampled_from(["flip", "flip", "flip", "zeros", "noise", "cut", "more"]))
    flip, noise = draw(strategies.integers(1, 255)), draw(strategies.binary(min_size=50, max_size=50))
    return {
        "flip": lambda content: content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :],
        "zeros": lambda content: content[:place] + bytes(len(content[place:][:4096])) + content[place + 4096 :],
        "noise": lambda content: content[:place] + noise + content[place + 50 :],
        "cut": lambda content: content[:place],
        "more": lambda content: content + noise,
    }[kind]
