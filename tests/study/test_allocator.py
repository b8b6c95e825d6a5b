import json
import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, torch
from trainable.allocator import keep_freed_memory
if {kept}:
    keep_freed_memory()
layer = torch.nn.Conv2d(3, 32, 3, padding=1)
images = torch.ones(128, 3, 32, 32)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    layer(images).relu().sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([faults() for _ in range(45)]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is changed")
def test_freed_memory_is_used_again_without_asking_the_kernel_for_its_pages():
    # glibc's default, which stays once it is named: else glibc raises it as blocks are freed, and how far that goes
    # depends on where they happened to lie
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
    last_15 = {}
    for kept in (False, True):
        command = [sys.executable, "-c", PROGRAM.format(kept=kept)]
        last_15[kept] = sum(json.loads(subprocess.check_output(command, env=environment))[30:])
    # a tensor of 16 MiB is 4,096 pages; the heap has found its shape after some steps
    assert last_15[True] < 4096 * 3 < 4096 * 15 < last_15[False]
