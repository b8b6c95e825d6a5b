import pytest

from study.findings import summary


@pytest.fixture(autouse=True, scope="package")
def _no_importances():
    """They take three quarters of the time, and are said of no trial."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary.importance, "importances", lambda *arguments, **options: {})
        yield
