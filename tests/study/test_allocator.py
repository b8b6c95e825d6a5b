import json
import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, torch
from trainable.allocator import keep_freed_memory
layer = torch.nn.Conv2d(3, 32, 3, padding=1)
images = torch.ones(32, 3, 32, 32)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    layer(images).relu().sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
found = [[faults() for _ in range(45)]]
keep_freed_memory()
print(json.dumps([*found, [faults() for _ in range(45)]]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is changed")
def test_freed_memory_is_used_again_without_asking_the_kernel_for_its_pages():
    # glibc's default, which stays once it is named: else glibc raises it as blocks are freed, and how far that goes
    # depends on where they happened to lie
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
    found = json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM], env=environment))
    last_15 = [sum(faults[30:]) for faults in found]  # before freed memory was kept, and after
    # a tensor of 4 MiB is 1,024 pages; the heap has found its shape after some steps
    assert last_15[1] < 1024 * 3 < 1024 * 15 < last_15[0]
