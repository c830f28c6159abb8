from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from types import ModuleType

import pytest

# For the writers too: CPU only, few words, no network.
os.environ |= {
    "CUDA_VISIBLE_DEVICES": "-1",
    "HF_HUB_OFFLINE": "1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Without `-m frameworks` these tests are deselected, which the summary says.
    """
    here = Path(__file__).parent
    ours = [item for item in items if here in item.path.parents]
    if "frameworks" not in config.option.markexpr:
        items[:] = [item for item in items if item not in ours]
        config.hook.pytest_deselected(items=ours)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(scope="session")
def tensorflow() -> ModuleType:
    return quietly_import("tensorflow")


@pytest.fixture(scope="session")
def orbax() -> ModuleType:
    return quietly_import("orbax.checkpoint")


@pytest.fixture(scope="session")
def safetensors() -> ModuleType:
    return quietly_import("safetensors.numpy")


def quietly_import(name: str) -> ModuleType:
    """
    Import a framework; what it warns of while it is imported is its own business.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
