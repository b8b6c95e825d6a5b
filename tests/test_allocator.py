import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from trainable.allocator import keep_freed_memory
if {kept}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is changed")
def test_freed_memory_is_used_again_without_asking_the_kernel_for_its_pages():
    faults = {
        kept: int(subprocess.check_output([sys.executable, "-c", PROGRAM.format(kept=kept)])) for kept in (False, True)
    }
    assert faults[True] < 100 < 5000 < faults[False]
