"""Fetch weights from huggingface.co or its cache; explain in one line why that failed."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from histoboost.errors import BadInput
from histoboost.featurize.backbones.foundation_model import FoundationModel

#: Names of weights files in a repository, in the order they are tried.
FILES = ("model.safetensors", "pytorch_model.bin")


def fetch(model: FoundationModel) -> Path:
    """Path of the weights file of a model; downloads it if the cache does not hold it."""
    from huggingface_hub import errors, hf_hub_download

    failure: OSError | None = None
    for file in (model.file,) if model.file else FILES:
        try:
            with quiet():
                return Path(hf_hub_download(model.repository, file, revision=model.revision))
        except errors.EntryNotFoundError as error:  # try the next
            failure = failure or error
        except OSError as error:  # all errors of huggingface_hub are OSErrors
            failure = error
            break
    assert failure is not None
    raise BadInput(why_not(model.backbone, failure, model.revision)) from failure


def why_not(name: str, error: OSError, revision: str | None = None) -> str:
    """Explain in one line why ``hf-hub:<repository>`` could not be fetched, and what to do."""
    from huggingface_hub import constants, errors

    repository = name.partition(":")[2]
    page = f"https://huggingface.co/{repository}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"backbone {name}: its licence must be accepted first; do so on {page}, "
            "then run: hf auth login"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"backbone {name}: no such repository, or a private one; check {page}"
    reason = str(error).split("\n")[0].split(". ")[0]
    at = f" at revision {revision[:8]}" if revision else ""
    return (
        f"backbone {name}: could not be fetched from huggingface.co{at} ({reason}); connect once, "
        f"copy it into {constants.HF_HUB_CACHE} from a machine that has it, or give --weights FILE"
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the hub's progress bars and retries, unless on a terminal."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    stderr = sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            yield
    finally:
        logging.set_verbosity(verbosity)
