import pytest


@pytest.fixture(scope="module")
def no_layer_is_small():
    """Every path of Lamb is tested on small layers; those of the fused path would go to the batched one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scala.lamb.fused.SMALL", 0)
        yield
